"""A preset's [model] table made into a network, with the sizes checked first.

Knows nothing of data, devices or training. BaseNet and VGG are flat `nn.Sequential`s, row by row as the
report's tables print them; torchvision, which takes seconds to import, is touched only for ResNet-50.
"""

from itertools import pairwise

import msgspec
import torch
from torch import nn

from presets.errors import CifartuiError
from presets.schema import BaseNet, Model, Resnet50, Vgg

_BASENET_IMAGE_SIZE = 32


def build(model: Model, num_classes: int, image_size: int) -> nn.Module:
    """Return a new network that maps images to class scores.

    Args:
        model: The preset's [model] table.
        num_classes: Number of classes, at least 1.
        image_size: Side in pixels of the square images that the network will see.

    Returns:
        A module from float images (N, 3, image_size, image_size) to logits (N, num_classes). Its parameters
        are drawn from torch's global random state, on the device that `torch.device` as a context says.

    Raises:
        CifartuiError: The parts of the network do not fit each other or the image size, or the weights
            that the preset names cannot be had.
    """
    match model:
        case BaseNet():
            return _basenet(num_classes, image_size)
        case Vgg():
            return _vgg(model, num_classes, image_size)
        case Resnet50():
            from engine.models.resnet import resnet50

            network: nn.Module = resnet50(model, num_classes)
            return network


def sketch(model: Model, num_classes: int, image_size: int) -> nn.Module:
    """Return the network of `build` on the meta device: shapes only, no memory, no pretrained weights read."""
    if isinstance(model, Resnet50):
        model = msgspec.structs.replace(model, weights=None)
    with torch.device("meta"):
        return build(model, num_classes, image_size)


def _basenet(num_classes: int, image_size: int) -> nn.Sequential:
    if image_size != _BASENET_IMAGE_SIZE:
        raise CifartuiError(
            f"BaseNet needs images of {_BASENET_IMAGE_SIZE}×{_BASENET_IMAGE_SIZE} pixels, not "
            f"{image_size}×{image_size}: set data.image_size to {_BASENET_IMAGE_SIZE}, or choose another network."
        )
    return nn.Sequential(
        nn.Conv2d(3, 6, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 50),
        nn.ReLU(),
        nn.Linear(50, num_classes),
    )


def _vgg(model: Vgg, num_classes: int, image_size: int) -> nn.Sequential:
    size = _pooled_size(model, image_size)
    layers: list[nn.Module] = []
    channels = 3
    for block, pool in zip(model.blocks, model.pools, strict=True):
        for width in block:
            layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        if pool == "max":
            layers.append(nn.MaxPool2d(2))
        elif pool == "avg":
            layers.append(nn.AdaptiveAvgPool2d(1))
    layers.append(nn.Flatten())
    widths = (channels * size**2, *model.head)
    for num_in, num_out in pairwise(widths):
        layers += [nn.Linear(num_in, num_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


def _pooled_size(model: Vgg, image_size: int) -> int:
    """Return the side in pixels of what the last block hands to the head; raise where the parts do not fit."""
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
