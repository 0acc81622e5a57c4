"""The VGG family: blocks of 3×3 convolutions with BatchNorm, pools between them, linear layers at the end.

Without shortcuts a network is one flat `nn.Sequential`, row by row as the report's table prints it.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from presets.errors import CifartuiError
from presets.schema import Vgg


class Add(nn.Module):
    """The sum of a block and its shortcut."""

    def forward(self, block: Tensor, shortcut: Tensor) -> Tensor:
        """Return `block` + `shortcut`, both [B, C, H, W]."""
        return block + shortcut


class Concat(nn.Module):
    """Branches, one after the other in the channels."""

    def forward(self, *branches: Tensor) -> Tensor:
        """Return [B, the sum of all C, H, W] of tensors [B, C, H, W]."""
        return torch.cat(branches, dim=1)


class Projection(nn.Conv2d):
    """A 1×1 convolution, with a stride or without.

    It takes every second pixel first and then convolves without stride. The result is the same, but the backward
    pass of a strided one writes out of bounds on CPUs with AVX2 where the channels are as few as an image's
    (oneDNN issue 6035).
    """

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__(num_in, num_out, kernel_size=1)
        self._step = stride

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, num_out, ⌈H / stride⌉, ⌈W / stride⌉] of `input` [B, num_in, H, W]."""
        return super().forward(input[:, :, :: self._step, :: self._step])


class ShortcutBlock(nn.Module):
    """A block with its pool, and around both a 1×1 convolution of the pool's stride: the report's "mix"."""

    def __init__(self, block: nn.Sequential, num_in: int, num_out: int, pool: str, join: Literal["add", "concat"]):
        super().__init__()
        self.block = block
        self.shortcut = nn.Sequential(Projection(num_in, num_out, stride=2 if pool == "max" else 1))
        if pool == "avg":
            self.shortcut.append(nn.AdaptiveAvgPool2d(1))
        self.join = Add() if join == "add" else Concat()

    def forward(self, images: Tensor) -> Tensor:
        """Return the block of [B, num_in, H, W], joined with its shortcut."""
        block = self.block(images)
        shortcut = self.shortcut(images)[:, :, : block.shape[2], : block.shape[3]]  # a pool drops an odd last row
        joined: Tensor = self.join(block, shortcut)
        return joined


def vgg(model: Vgg, num_classes: int, image_size: int) -> nn.Sequential:
    """Return the network of a [model] table; see `engine.models.build.build`.

    Raises:
        CifartuiError: its parts do not fit each other or the image size.
    """
    size = _pooled_size(model, image_size)
    layers: list[nn.Module] = []
    channels = 3
    for widths, pool in zip(model.blocks, model.pools, strict=True):
        block = _block(channels, widths, pool, bias=model.conv_bias)
        if model.shortcuts == "none":
            layers += block
            channels = widths[-1]
        else:
            layers.append(ShortcutBlock(nn.Sequential(*block), channels, widths[-1], pool, model.shortcuts))
            channels = widths[-1] * (2 if model.shortcuts == "concat" else 1)
    network = nn.Sequential(*layers, nn.Flatten(), *_head(model, channels * size**2, num_classes))
    if model.init == "he":
        network.apply(_initialise)
    return network


def _block(channels: int, widths: tuple[int, ...], pool: str, *, bias: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise((channels, *widths)):
        convolution = nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=bias)
        layers += [convolution, nn.BatchNorm2d(num_out), nn.ReLU()]
    if pool == "max":
        layers.append(nn.MaxPool2d(2))
    elif pool == "avg":
        layers.append(nn.AdaptiveAvgPool2d(1))
    return layers


def _head(model: Vgg, num_features: int, num_classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    widths = (num_features, *model.head)
    for num_in, num_out in pairwise(widths):
        layers.append(nn.Linear(num_in, num_out))
        if model.head_batch_norm:
            layers.append(nn.BatchNorm1d(num_out))
        layers.append(nn.ReLU())
        if model.dropout:
            layers.append(nn.Dropout(model.dropout))
    return [*layers, nn.Linear(widths[-1], num_classes)]


def _initialise(module: nn.Module) -> None:
    """Draw weights after He et al. 2015 (arXiv:1502.01852), so that ReLU keeps the variance; biases are 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _pooled_size(model: Vgg, image_size: int) -> int:
    """Return the side in pixels of the head's input; raise if the parts do not fit."""
    if len(model.pools) != len(model.blocks):
        raise CifartuiError(
            f"The network has {len(model.blocks)} blocks but {len(model.pools)} pools: "
            'set model.pools to one of "max", "none" or "avg" for every block.'
        )
    if "avg" in model.pools[:-1]:
        raise CifartuiError(
            'An average pool to 1×1 can only follow the last block: set the "avg" before it in model.pools '
            'to "max" or "none".'
        )
    num_halvings = model.pools.count("max")
    if image_size < 2**num_halvings:
        raise CifartuiError(
            f"Images of {image_size}×{image_size} pixels are too small for {num_halvings} maximum pools: "
            f"set data.image_size to at least {2**num_halvings}, or take pools out of model.pools."
        )
    return 1 if model.pools[-1] == "avg" else image_size // 2**num_halvings
