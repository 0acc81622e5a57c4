"""ResNet-9: a shallow, wide residual network for small images, made to be trained in minutes.

After Page, "How to train your ResNet", 2018, with which the CIFAR speed records began: a stem, three convolutions that
each halve the image, a residual pair behind the first and the last of them, and a maximum over what is left.
"""

from torch import Tensor, nn

from engine.models.vgg import Add


def _convolution(num_in: int, num_out: int, *, halves: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(),
    ]
    return [*layers, nn.MaxPool2d(2)] if halves else layers


class ResidualPair(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pair = nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels))
        self.add = Add()

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, channels, H, W] of [B, channels, H, W]."""
        added: Tensor = self.add(self.pair(images), images)
        return added


class ResNet9(nn.Sequential):
    """Eight convolutions of `width` to eight times as many channels, and a linear layer."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__(
            *_convolution(3, width),
            *_convolution(width, 2 * width, halves=True),
            ResidualPair(2 * width),
            *_convolution(2 * width, 4 * width, halves=True),
            *_convolution(4 * width, 8 * width, halves=True),
            ResidualPair(8 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, num_classes),
        )
