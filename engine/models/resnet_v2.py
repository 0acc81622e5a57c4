"""ResNet-V2 50x1 as in Big Transfer (Kolesnikov et al. 2019, arXiv:1912.11370).

Bottleneck blocks that normalise before they convolve, GroupNorm in place of BatchNorm, and convolutions
whose weights are standardised at every use (Qiao et al. 2019, arXiv:1903.10520).
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation names it
from torch import Tensor, nn

from engine.models.vgg import Add
from presets.schema import ResnetV2

_NUM_BLOCKS = (3, 4, 6, 3)
_WIDTH = 64
_EXPANSION = 4
_NUM_GROUPS = 32
_EPSILON = 1e-10


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1, whatever its stored weights are."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `input` [B, C, H, W] with the standardised filters."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / torch.sqrt(variance + _EPSILON)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _convolution(num_in: int, num_out: int, kernel: int, stride: int = 1) -> StandardisedConv2d:
    return StandardisedConv2d(num_in, num_out, kernel, stride, padding=kernel // 2, bias=False)


class PreActivationBottleneck(nn.Module):
    """GroupNorm, ReLU and a convolution, three times; added to its input, projected if shapes differ."""

    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        num_out = width * _EXPANSION
        self.enter = nn.Sequential(nn.GroupNorm(_NUM_GROUPS, num_in), nn.ReLU())
        self.convolutions = nn.Sequential(
            _convolution(num_in, width, 1),
            nn.GroupNorm(_NUM_GROUPS, width),
            nn.ReLU(),
            _convolution(width, width, 3, stride),
            nn.GroupNorm(_NUM_GROUPS, width),
            nn.ReLU(),
            _convolution(width, num_out, 1),
        )
        self.projection = _convolution(num_in, num_out, 1, stride) if stride > 1 or num_in != num_out else None
        self.join = Add()

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, 4 × width, H / stride, W / stride] of [B, num_in, H, W]."""
        entered = self.enter(images)
        shortcut = images if self.projection is None else self.projection(entered)
        joined: Tensor = self.join(self.convolutions(entered), shortcut)
        return joined


class ResNetV2(nn.Sequential):
    """The network, layer by layer."""

    def forward(self, input: Tensor) -> Tensor:
        """Return logits [B, C] of images [B, 3, H, W], in the memory format of the filters from the start."""
        if self[0].weight.is_contiguous():  # type: ignore[operator]
            input = input.contiguous()
        logits: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return logits


def resnet_v2(model: ResnetV2, num_classes: int) -> ResNetV2:
    """Return the network of a [model] table; see `engine.models.build.build`."""
    layers: list[nn.Module] = [_convolution(3, _WIDTH, 3)]
    if model.stem == "imagenet":
        layers = [_convolution(3, _WIDTH, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
    channels, width = _WIDTH, _WIDTH
    for stage, num_blocks in enumerate(_NUM_BLOCKS):
        for block in range(num_blocks):
            stride = 2 if stage and not block else 1
            layers.append(PreActivationBottleneck(channels, width, stride))
            channels = width * _EXPANSION
        width *= 2
    layers += [nn.GroupNorm(_NUM_GROUPS, channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return ResNetV2(*layers, nn.Linear(channels, num_classes))
