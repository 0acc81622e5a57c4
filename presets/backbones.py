"""Classifiers of torchvision and timm by name: input size, normalisation, parameters, published accuracy. No torch.

The table is presets/backbones.json, which `python -m docs.backbones` writes from the libraries themselves.
"""

import functools
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from presets.problems import Fault
from presets.schema import Backbone, FreezableModel, Model

FILE = Path(__file__).with_name("backbones.json")
OTHER = "other"
"""The input of weights that no value of `data.normalize` is for, or that take no squares."""
TIMM_ADVICE = "install it into this Python with: pip install 'cifartui[timm]'"


class Input(Struct, frozen=True):
    """The images that a network's weights were trained for: side in pixels, and a value of `data.normalize`."""

    size: int
    normalize: str


class PublishedWeights(Struct, frozen=True, kw_only=True):
    """Weights that torchvision publishes; `top1` is the ImageNet-1K accuracy that it states, a fraction."""

    name: str
    size: int
    normalize: str
    top1: float
    num_bytes: int


class Classifier(Struct, frozen=True, kw_only=True):
    """A classifier of torchvision, for 1000 classes; the first of `weights` is its default."""

    num_parameters: int
    min_size: int
    """Side in pixels of the smallest images that it takes."""
    weights: tuple[PublishedWeights, ...]


class _Table(Struct, frozen=True):
    torchvision: dict[str, Classifier]
    timm: dict[str, tuple[str, ...]]
    """Names by "SIZE NORMALIZE", with a tag where that differs from the network's default; perhaps by `OTHER`."""
    timm_without_weights: frozenset[str]
    """Names without a tag of which timm publishes no weights."""


@functools.cache
def _table() -> _Table:
    return msgspec.json.decode(FILE.read_bytes(), type=_Table)


def torchvision() -> dict[str, Classifier]:
    """Return torchvision's classifiers by name."""
    return _table().torchvision


def input_of(source: str, name: str, weights: str | None) -> Input | None:
    """Return the images that a library's configuration names for a network; None if the table does not say it.

    Args:
        source: torchvision or timm.
        name: the network.
        weights: a name of torchvision's, of which some have a size of their own; anything else counts as the default.
    """
    if source == "torchvision":
        known = torchvision().get(name)
        if known is None:
            return None
        chosen = next((each for each in known.weights if each.name == weights), known.weights[0])
        return Input(chosen.size, chosen.normalize)
    inputs = {each: kind for kind, names in _table().timm.items() for each in names}
    kind = inputs.get(name) or inputs.get(name.partition(".")[0])
    if kind is None or kind == OTHER:
        return None
    size, normalize = kind.split()
    return Input(int(size), normalize)


def has_weights(model: Backbone) -> bool:
    """Return false for a network of timm of which the table knows that no weights are published."""
    return model.source != "timm" or model.name not in _table().timm_without_weights


def published_weights(model: FreezableModel) -> tuple[str, ...]:
    """Return the names that `model.weights` may have besides a file; none of a network that is in no table."""
    if isinstance(model, Backbone) and model.source == "timm":
        return ("default",)  # another tag is a part of timm's name for the network
    known = torchvision().get(network_name(model))
    return () if known is None else ("default", *(each.name for each in known.weights))


def fill_in(table: dict[str, Any]) -> Fault | None:
    """Set `data.image_size` and `data.normalize` of a preset's table, if it leaves them to its backbone's library.

    Returns:
        What is wrong, if the preset leaves them out and the table of backbones does not know them.
    """
    model, data = table.get("model"), table.get("data")
    if not isinstance(model, dict) or not isinstance(data, dict) or model.get("network") != "backbone":
        return None
    if {"image_size", "normalize"} <= data.keys():
        return None
    source, name = model.get("source", "torchvision"), model.get("name")
    if source not in {"torchvision", "timm"} or not isinstance(name, str):
        return None  # the schema says what is wrong with that
    found, keys = input_of(source, name, model.get("weights")), (("model", "name"), ("model", "source"))
    if found is not None:
        table["data"] = {"image_size": found.size, "normalize": found.normalize, **data}
    elif name in torchvision():
        return Fault(f'model.name = "{name}" is a classifier of torchvision; set model.source = "torchvision".', keys)
    elif source == "timm":
        return Fault(
            f'model.name: the input of timm\'s "{name[:100]}" is not known here; check the name with '
            "`cifartui presets --backbones`, or set data.image_size and data.normalize.",
            keys,
        )
    return None


def network_name(model: Model | FreezableModel) -> str:
    """Return the name of a network: of a backbone its own."""
    return model.name if isinstance(model, Backbone) else str(model.__struct_config__.tag)
