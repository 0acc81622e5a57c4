"""What the types of the schema cannot say: that a preset's values go together.

Knows the schema; nothing of files. The engine may rely on everything that is checked here.
"""

import math
import re
from collections.abc import Iterator

import msgspec

from presets.errors import CifartuiError
from presets.problems import Fault, KeyPath, dotted
from presets.schema import Augmentation, BaseNet, CenterCrop, HorizontalFlip, Preset, RandomCrop, Resize, Sgd, Vgg

BASENET_IMAGE_SIZE = 32
_STORED_SIZE = {"cifar100": 32, "shapes100": 32}
"""Side in pixels of a data set's images as stored, where all have the same."""
_MAX_PIXELS = 4096
_IMAGE_SIZE = ("data", "image_size")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What would break a line or steer a terminal, and halves of characters, which no file can hold."""


def check(preset: Preset) -> None:
    """Make sure that the values of a preset go together.

    Raises:
        CifartuiError: they do not; the message names the key.
    """
    fault = next(faults(preset), None)
    if fault is not None:
        raise CifartuiError(fault.text)


def faults(preset: Preset) -> Iterator[Fault]:
    """Yield everything in a preset that does not go together."""
    yield from _of_values(msgspec.to_builtins(preset), ())
    yield from _of_data(preset)
    if isinstance(preset.model, Vgg):
        yield from _of_vgg(preset.model, preset.data.image_size)
    yield from _of_augmentation(preset)
    if isinstance(preset.optimizer, Sgd) and preset.optimizer.nesterov and preset.optimizer.momentum == 0:
        yield Fault(
            "optimizer.nesterov needs optimizer.momentum above 0; set the momentum, or nesterov = false.",
            (("optimizer", "nesterov"), ("optimizer", "momentum")),
        )


def _of_values(value: object, path: KeyPath) -> Iterator[Fault]:
    if isinstance(value, float) and not math.isfinite(value):
        yield Fault(f"{dotted(path)} must be a finite number, not {value}.", (path,))
    elif isinstance(value, str) and _CONTROL.search(value):
        yield Fault(f"{dotted(path)} must be text on one line, without control characters.", (path,))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _of_values(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _of_values(item, (*path, index))


def _of_data(preset: Preset) -> Iterator[Fault]:
    if preset.data.dataset == "class-folders" and not preset.data.path:
        yield Fault(
            'data.path is missing: with dataset = "class-folders" it names the folder of images.',
            (("data", "dataset"), ("data", "path")),
        )
    if isinstance(preset.model, BaseNet) and preset.data.image_size != BASENET_IMAGE_SIZE:
        yield Fault(
            f"data.image_size must be {BASENET_IMAGE_SIZE} for the network basenet, not {preset.data.image_size}.",
            (_IMAGE_SIZE, ("model", "network")),
        )


def _of_vgg(model: Vgg, image_size: int) -> Iterator[Fault]:
    pools = ("model", "pools")
    if len(model.pools) != len(model.blocks):
        yield Fault(
            f"model.pools must have one entry for every entry of model.blocks, which has {len(model.blocks)}, "
            f"not {len(model.pools)}.",
            (pools, ("model", "blocks")),
        )
    if "avg" in model.pools[:-1]:
        yield Fault('model.pools may have "avg" in the last place only; use "max" or "none" before it.', (pools,))
    num_halvings = model.pools.count("max")
    if num_halvings >= image_size.bit_length():
        yield Fault(
            f'model.pools has {num_halvings} times "max", which leaves nothing of {image_size} px; '
            f'use at most {image_size.bit_length() - 1}, or "none", or a larger data.image_size.',
            (pools, _IMAGE_SIZE),
        )


def _of_augmentation(preset: Preset) -> Iterator[Fault]:
    """Follow the size of a training image through `train.augment`, as far as it is known."""
    size = _STORED_SIZE.get(preset.data.dataset)
    for index, operation in enumerate(preset.train.augment):
        path: KeyPath = ("train", "augment", index)
        after = _size_after(operation, preset.data.image_size, size)
        text = _misfit(operation, size, after, dotted(path))
        if text:
            yield Fault(text, (path, _IMAGE_SIZE, ("data", "dataset")))
        size = after


def _misfit(operation: Augmentation, size: int | None, after: int | None, name: str) -> str:
    """Return why an operation cannot turn images of `size` px into ones of `after` px; empty where it can."""
    if isinstance(operation, Resize) and (after is None or not 1 <= after <= _MAX_PIXELS):
        return f"{name} resizes to {after} px; change its scale so that it comes to between 1 and {_MAX_PIXELS} px."
    if size is None or not isinstance(operation, RandomCrop | CenterCrop):
        return ""
    padding = operation.padding if isinstance(operation, RandomCrop) else 0
    if isinstance(operation, RandomCrop) and operation.fill == "reflect" and padding >= size:
        return f"{name}.padding must be below {size}, the side of the image that it mirrors, not {padding}."
    if after is not None and after > size + 2 * padding:
        padded = f", padded to {size + 2 * padding} px" if padding else ""
        return (
            f"{name} cuts {after} px out of an image of {size} px{padded}; "
            'put { op = "resize" } before it, or make the crop smaller.'
        )
    return ""


def _size_after(operation: Augmentation, image_size: int, size: int | None) -> int | None:
    """Return the side in pixels after an operation, None where it is not known."""
    match operation:
        case Resize():
            return operation.size or round(image_size * operation.scale)
        case CenterCrop() | RandomCrop():
            return operation.size or image_size
        case HorizontalFlip():
            return size
