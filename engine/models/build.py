"""Builder of a network from a preset's [model] table, with the sizes checked first. No data, no device.

BaseNet and the plain VGGs are flat `nn.Sequential`s, row by row as the report's tables print them; torchvision, which
takes seconds to import, is imported only for its ResNets and for backbones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from engine.models.googlenet import GoogLeNet
from engine.models.resnet9 import ResNet9
from engine.models.resnet_v2 import ResNetV2, resnet_v2
from engine.models.vgg import vgg
from presets.errors import CifartuiError
from presets.schema import (
    Backbone,
    BaseNet,
    FreezableModel,
    Googlenet,
    Model,
    Resnet9,
    Resnet18,
    Resnet50,
    ResnetV2,
    Vgg,
)

_BASENET_IMAGE_SIZE = 32


def _say_nothing(text: str) -> None:
    pass


def build(
    model: Model,
    num_classes: int,
    image_size: int,
    say: Callable[[str], object] = _say_nothing,
    class_names: Sequence[str] = (),
) -> nn.Module:
    """Return a new network that maps images to class scores.

    Args:
        model: The preset's [model] table.
        num_classes: Number of classes, at least 1.
        image_size: Side in pixels of the square images that the network will see.
        say: told in a sentence how much of pretrained weights was loaded.
        class_names: one a class; the last layer of a checkpoint that has class names is matched with them by name.

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
            return vgg(model, num_classes, image_size)
        case Resnet18() | Resnet50():
            from engine.models.resnet import resnet

            network: nn.Module = resnet(model, num_classes, say, class_names)
            return network
        case Backbone():
            from engine.models.backbone import backbone

            return backbone(model, num_classes, image_size, say, class_names)
        case Googlenet():
            return GoogLeNet(num_classes)
        case ResnetV2():
            return resnet_v2(model, num_classes)
        case Resnet9():
            return ResNet9(num_classes, model.width)


def build_unfilled(model: Model, num_classes: int, image_size: int) -> nn.Module:
    """Return the network of `build` for weights that are loaded later: random ones, and no file is read.

    Unlike a network of a table without `weights`, it scales its input as those pretrained ones want it.
    """
    network = build(without_weights(model), num_classes, image_size)
    if isinstance(model, Backbone) and model.weights is not None and hasattr(network.body, "transform_input"):
        network.body.transform_input = True
    return network


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network on `device`, in the memory format in which it needs the fewest copies there."""
    return network.to(device).to(memory_format=memory_format_of(network, device))


def memory_format_of(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Return channels_last, except for a network full of GroupNorm on a GPU.

    There torch normalises groups in contiguous memory, for which images would be turned twice in every block.
    """
    turns = isinstance(network, ResNetV2) and device.type != "cpu"
    return torch.contiguous_format if turns else torch.channels_last


def build_on_meta(model: Model, num_classes: int, image_size: int) -> nn.Module:
    """Return the network of `build` on the meta device: shapes only, no memory, no pretrained weights read."""
    with torch.device("meta"), _ValuesOnCpu():
        network = build(without_weights(model), num_classes, image_size)
    return network.to("meta")


class _ValuesOnCpu(TorchFunctionMode):
    """Makes small tensors with given values on the CPU: RegNet and others read them back while they are built."""

    _FACTORIES = frozenset({torch.arange, torch.linspace, torch.tensor})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **kwargs)


def without_weights(model: Model) -> Model:
    """Return the table with random weights in place of pretrained ones, so that building it reads no file."""
    return msgspec.structs.replace(model, weights=None) if isinstance(model, FreezableModel) else model


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
