"""Names of a network's tensors as torchvision or timm has them, if it is one of theirs; versions of the libraries."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor, nn

from presets.schema import Backbone, Model, Resnet18, Resnet50


def library_call(model: Model, image_size: int) -> tuple[str, str, dict[str, Any]] | None:
    """Return how a library makes the network of a [model] table: its name, the network's, and further arguments.

    None if the network is no library's: ours, or a ResNet with another stem.
    """
    match model:
        case Backbone():
            from engine.models.backbone import library_options

            return model.source, model.name, library_options(model, image_size)
        case Resnet18() | Resnet50() if model.stem == "imagenet":
            return "torchvision", "resnet18" if isinstance(model, Resnet18) else "resnet50", {}
    return None


def _keys(network: nn.Module) -> dict[str, str]:
    """Return the key of every entry of a state dict by the name that a file has for it."""
    names = getattr(network, "library_names", None)
    found: dict[str, str] = names() if names is not None else {key: key for key in network.state_dict()}
    return found


def named(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state dict, under the names of its library if it has one."""
    state = network.state_dict()
    return {name: state[key] for name, key in _keys(network).items()}


def unnamed(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the names of `named` under the keys of a network's state dict; others stay as they are."""
    keys = _keys(network)
    return {keys.get(name, name): tensor for name, tensor in tensors.items()}


def versions_of(model: Model) -> dict[str, str]:
    """Return the versions of what trains the network of a [model] table: cifartui, torch, torchvision, timm if used."""
    uses_timm = isinstance(model, Backbone) and model.source == "timm"
    return installed("cifartui", "torch", "torchvision", *(("timm",) if uses_timm else ()))


def installed(*names: str) -> dict[str, str]:
    """Return the versions of the packages of these names, of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
