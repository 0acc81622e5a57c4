"""GoogLeNet for small images, with BatchNorm after every convolution.

Inception modules with the widths of Szegedy et al. 2014 (arXiv:1409.4842, table 1). The stem is one 3×3
convolution without stride, in place of the three layers that would shrink a 32 px image to 4 px. Two 3×3
convolutions stand in for each 5×5, as in the BatchNorm paper (Ioffe & Szegedy 2015, arXiv:1502.03167).
"""

from typing import NamedTuple

from torch import Tensor, nn

from engine.models.vgg import Concat


class Widths(NamedTuple):
    """Channels of an inception module's branches; `reduce` are the 1×1 convolutions before the large ones."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def num_out(self) -> int:
        """Channels of the module's result."""
        return self.one + self.three + self.five + self.pool


STAGES: tuple[tuple[Widths, ...], ...] = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
"""Modules 3a–3b, 4a–4e, 5a–5b; a pool of stride 2 lies between the groups."""
_STEM = 192


def _convolution(num_in: int, num_out: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(),
    ]


class Inception(nn.Module):
    """Four branches over the same input, laid side by side in the channels."""

    def __init__(self, num_in: int, widths: Widths) -> None:
        super().__init__()
        self.one = nn.Sequential(*_convolution(num_in, widths.one, 1))
        self.three = nn.Sequential(
            *_convolution(num_in, widths.three_reduce, 1), *_convolution(widths.three_reduce, widths.three, 3)
        )
        self.five = nn.Sequential(
            *_convolution(num_in, widths.five_reduce, 1),
            *_convolution(widths.five_reduce, widths.five, 3),
            *_convolution(widths.five, widths.five, 3),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_convolution(num_in, widths.pool, 1))
        self.join = Concat()

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, num_out, H, W] of [B, num_in, H, W]."""
        joined: Tensor = self.join(self.one(images), self.three(images), self.five(images), self.pool(images))
        return joined


class GoogLeNet(nn.Sequential):
    """Nine inception modules between a stem and a global average pool."""

    def __init__(self, num_classes: int) -> None:
        layers = _convolution(3, _STEM, 3)
        channels = _STEM
        for number, stage in enumerate(STAGES):
            if number:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            for widths in stage:
                layers.append(Inception(channels, widths))
                channels = widths.num_out
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
