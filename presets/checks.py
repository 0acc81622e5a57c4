"""Checks across the fields of a preset, which the types of the schema cannot express. No files.

The engine may rely on everything that is checked here.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from presets import backbones
from presets.errors import CifartuiError
from presets.plan import plan
from presets.problems import Fault, KeyPath, choices, dotted, nearest, shown
from presets.schema import (
    FREEZABLE,
    Augmentation,
    Backbone,
    BaseNet,
    CenterCrop,
    FreezableModel,
    Gamma,
    Model,
    Optimizer,
    Preset,
    RandomCrop,
    RandomResizedCrop,
    RangeTest,
    Resize,
    Resnet9,
    Resnet18,
    Resnet50,
    Sgd,
    Vgg,
)

BASENET_IMAGE_SIZE = 32
_RESNET9_SMALLEST = 8
"""Side in pixels: it is halved three times."""
STORED_SIZE = {"cifar100": 32, "cifar10": 32, "shapes100": 32, "mnist": 28, "fashion-mnist": 28}
"""Side in pixels of a data set's images as stored, if all have the same."""
_MAX_PIXELS = 4096
LARGEST_LR = 1e6
"""Largest rate of a range test: no network learns at a tenth of it."""
_IMAGE_SIZE = ("data", "image_size")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that would break a line or control a terminal, and halves of characters, which no file can hold."""


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
    yield from _of_smallest_size(preset.model, preset.data.image_size)
    yield from _of_vgg(preset.model, preset.data.image_size)
    yield from _of_stages(preset)
    yield from _of_augmentation(preset, preset.data.evaluate, ("data", "evaluate"))
    yield from _of_augmentation(preset, preset.train.augment, ("train", "augment"))
    yield from _of_optimizer(preset.optimizer, ("optimizer",))
    for index, stage in enumerate(preset.stages):
        yield from _of_augmentation(preset, stage.augment, ("stages", index, "augment"))
        if stage.optimizer is not None:
            yield from _of_optimizer(stage.optimizer, ("stages", index, "optimizer"))
    yield from _of_frozen(preset)
    yield from _of_weights(preset.model)
    if isinstance(preset.model, Backbone):
        yield from _of_backbone(preset.model)
    if preset.train.cuda_graphs is True and preset.train.compile in {"reduce-overhead", "max-autotune"}:
        yield Fault(
            f'train.cuda_graphs does not go with train.compile = "{preset.train.compile}", which makes graphs of its '
            'own; use one of them, or compile = "default".',
            (("train", "cuda_graphs"), ("train", "compile")),
        )
    yield from _of_ingredients(preset)
    yield from _of_range_test(preset)


def _of_stages(preset: Preset) -> Iterator[Fault]:
    epochs, stages = ("train", "epochs"), ("stages",)
    if preset.train.epochs is None and not preset.stages:
        yield Fault("train.epochs is missing; it must be a whole number from 1 to 100,000.", (("train",),))
    if preset.train.epochs is not None and preset.stages:
        yield Fault(
            "train.epochs does not go with [[stages]], which have their own; to train all of them for fewer epochs, "
            "set train.epochs_scale, such as 0.1.",
            (epochs, stages),
        )
    if preset.train.augment and preset.stages:
        yield Fault(
            "train.augment does not go with [[stages]]; give each stage its own augment.",
            (("train", "augment"), stages),
        )
    names = [stage.name for stage in preset.stages]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Fault(
                f'stages[{index}].name must differ from the others, not "{name}" again.', (("stages", index, "name"),)
            )
    freezable = '" and "'.join(FREEZABLE)
    for index, stage in enumerate(preset.stages):
        if stage.frozen is not None and not isinstance(preset.model, FreezableModel):
            yield Fault(
                f'stages[{index}].frozen is for the networks "{freezable}"; take it out.',
                (("stages", index, "frozen"), ("model", "network")),
            )
    if preset.stages and preset.stages[0].start_from == "best":
        yield Fault(
            'stages[0].start_from must be "last": the first stage has none before it.', (("stages", 0, "start_from"),)
        )


def _of_optimizer(optimizer: Optimizer, path: KeyPath) -> Iterator[Fault]:
    if isinstance(optimizer, Sgd) and optimizer.nesterov and optimizer.momentum == 0:
        name = dotted(path)
        yield Fault(
            f"{name}.nesterov needs {name}.momentum above 0; set the momentum, or nesterov = false.",
            ((*path, "nesterov"), (*path, "momentum")),
        )


def _of_frozen(preset: Preset) -> Iterator[Fault]:
    views = ("train", "feature_views")
    is_frozen = any(stage.frozen for stage in plan(preset))
    if preset.train.feature_views is not None and not is_frozen:
        yield Fault(
            'train.feature_views needs a network with model.frozen = true; set it to "none", or freeze the network.',
            (views, ("model", "frozen")),
        )


def _of_weights(model: Model) -> Iterator[Fault]:
    if not isinstance(model, FreezableModel) or model.weights is None:
        return
    weights, published = ("model", "weights"), backbones.published_weights(model)
    if isinstance(model, Resnet18 | Resnet50) and model.stem == "small" and model.weights in published:
        yield Fault(
            f'model.weights = "{model.weights}" were trained with model.stem = "imagenet"; use that stem, '
            'or model.weights = "none".',
            (weights, ("model", "stem")),
        )
    elif isinstance(model, Backbone) and model.weights == "default" and not backbones.has_weights(model):
        yield Fault(
            f'model.weights: timm publishes none for {model.name}; name a file, or "none" to train from random weights'
            ", or set model.name to a network that has some.",
            (weights, ("model", "name"), ("model", "source")),
        )
    elif published and model.weights not in published and not Path(model.weights).is_absolute():  # a file's path is
        yield Fault(
            f"model.weights of {backbones.network_name(model)} must be {choices(published)} or a file, not "
            f"{shown(model.weights)}{nearest(model.weights, published) or '.'}",
            (weights, ("model", "name")),
        )


def _of_backbone(model: Backbone) -> Iterator[Fault]:
    if model.source == "timm" or model.name in backbones.torchvision():
        return  # timm's names are its own affair: another version has others
    keys = (("model", "name"), ("model", "source"))
    if backbones.input_of("timm", model.name, None) is not None:
        yield Fault(f'model.name = "{model.name}" is a network of timm; set model.source = "timm" too.', keys)
        return
    hint = nearest(model.name, backbones.torchvision()) or "; `cifartui presets --backbones` lists them."
    yield Fault(f'model.name must be a classifier of torchvision, not "{model.name}"{hint}', keys)


def _of_ingredients(preset: Preset) -> Iterator[Fault]:
    train = preset.train
    if any(stage.frozen for stage in plan(preset)):
        wholes = {
            "train.image_sizes": bool(train.image_sizes),
            "train.alternating_flip": train.alternating_flip,
            "train.flip_average": train.flip_average,
            "mix": preset.mix.is_on,
        }
        for name in (name for name, is_on in wholes.items() if is_on):
            yield Fault(
                f"{name} does not go with a frozen network, whose features are computed once; take one of them out.",
                (tuple(name.split(".")), ("model", "frozen")),
            )
    if train.max_minutes is not None and preset.stages:
        yield Fault(
            "train.max_minutes does not go with [[stages]], of which each has its own schedule; take one of them out.",
            (("train", "max_minutes"), ("stages",)),
        )
    if train.image_sizes:
        yield from _of_sizes(preset)


def _of_range_test(preset: Preset) -> Iterator[Fault]:
    schedule, name = preset.schedule, ("schedule", "name")
    for index, stage in enumerate(preset.stages):
        if isinstance(stage.schedule or schedule, RangeTest):
            yield Fault(
                f'stages[{index}] cannot have the schedule "range-test", which is a run of its own; '
                "test the first stage with: cifartui lr-find",
                (("stages", index, "schedule"), name),
            )
            return
    if not isinstance(schedule, RangeTest):
        return
    first, lr = ("schedule", "first_lr"), ("optimizer", "lr")
    if schedule.first_lr >= preset.optimizer.lr:
        yield Fault(
            f"schedule.first_lr must be below optimizer.lr, to which a range test rises from it, not "
            f"{schedule.first_lr:g} where that is {preset.optimizer.lr:g}.",
            (first, lr),
        )
    if preset.optimizer.lr > LARGEST_LR:
        yield Fault(f"optimizer.lr must be at most {LARGEST_LR:g} in a range test.", (lr,))
    if preset.train.max_minutes is not None:
        yield Fault(
            "train.max_minutes does not go with a range test, which ends after schedule.steps batches; "
            "take one of them out.",
            (("train", "max_minutes"), name),
        )


def _of_sizes(preset: Preset) -> Iterator[Fault]:
    name, path = "train.image_sizes", ("train", "image_sizes")
    shares = [until for until, _ in preset.train.image_sizes]
    if shares != sorted(set(shares)):
        yield Fault(f"{name} must go on in time: each share of the epochs larger than the one before.", (path,))
    if _has_one_size(preset.model):
        yield Fault(
            f"{name} needs a network for images of any size: not basenet, vit or maxvit, and vgg only with "
            '"avg" last in model.pools.',
            (path, ("model", "network")),
        )
        return
    for index, (_, size) in enumerate(preset.train.image_sizes):
        for fault in (*_of_smallest_size(preset.model, size), *_of_vgg(preset.model, size)):
            yield Fault(fault.text.replace("data.image_size", f"{name}[{index}]"), ((*path, index),))


def _has_one_size(model: Model) -> bool:
    """Return true if a network is made for the size of its images, and takes no other."""
    if isinstance(model, Backbone):
        return model.source == "torchvision" and model.name.startswith(("vit_", "maxvit"))
    return isinstance(model, BaseNet) or (isinstance(model, Vgg) and model.pools[-1:] != ("avg",))


def _of_smallest_size(model: Model, image_size: int) -> Iterator[Fault]:
    """Yield a fault if a network halves images of `image_size` pixels until nothing is left."""
    smallest, name = 1, ""
    if isinstance(model, Resnet9):
        smallest, name = _RESNET9_SMALLEST, "resnet9"
    elif isinstance(model, Backbone) and model.source == "torchvision" and model.name in backbones.torchvision():
        smallest, name = backbones.torchvision()[model.name].min_size, model.name
    if image_size < smallest:
        yield Fault(
            f"data.image_size must be at least {smallest} for {name}, not {image_size}.",
            (_IMAGE_SIZE, ("model", "network")),
        )


def _of_values(value: object, path: KeyPath) -> Iterator[Fault]:
    if isinstance(value, float) and not math.isfinite(value):
        yield Fault(f"{dotted(path)} must be a finite number, not {value}.", (path,))
    elif isinstance(value, str) and CONTROL.search(value):
        yield Fault(f"{dotted(path)} must be text on one line, without control characters.", (path,))
    elif isinstance(value, dict):
        for key, item in value.items():
            if CONTROL.search(key):  # of a table whose keys the schema leaves free
                yield Fault(f"{dotted(path)} must name its entries without control characters.", (path,))
            else:
                yield from _of_values(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _of_values(item, (*path, index))


def _of_data(preset: Preset) -> Iterator[Fault]:
    if isinstance(preset.model, BaseNet) and preset.data.image_size != BASENET_IMAGE_SIZE:
        yield Fault(
            f"data.image_size must be {BASENET_IMAGE_SIZE} for the network basenet, not {preset.data.image_size}.",
            (_IMAGE_SIZE, ("model", "network")),
        )
    if preset.data.labels is not None and preset.data.dataset != "class-folders":
        yield Fault(
            f'data.labels is for data.dataset = "class-folders", not "{preset.data.dataset}", which has labels of its '
            "own; leave it out.",
            (("data", "labels"), ("data", "dataset")),
        )


def _of_vgg(model: Model, image_size: int) -> Iterator[Fault]:
    if not isinstance(model, Vgg):
        return
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


def _of_augmentation(preset: Preset, augment: tuple[Augmentation, ...], parent: KeyPath) -> Iterator[Fault]:
    """Follow the size of a training image through `augment`, as far as it is known."""
    size = _stored_size(preset)
    for index, operation in enumerate(augment):
        path: KeyPath = (*parent, index)
        after = _size_after(operation, preset.data.image_size, size)
        text = _disorder(operation, dotted(path)) or _misfit(operation, size, after, dotted(path))
        if text:
            yield Fault(text, (path, _IMAGE_SIZE, ("data", "dataset")))
        size = after


def _stored_size(preset: Preset) -> int:
    data = preset.data
    return STORED_SIZE.get(data.dataset) or data.cache_size or data.image_size


def _disorder(operation: Augmentation, name: str) -> str:
    """Return a sentence about a range of an operation that runs backwards; empty if none does."""
    ranges: dict[str, tuple[float, float]] = {}
    if isinstance(operation, RandomResizedCrop):
        ranges = {f"{name}.scale": operation.scale, f"{name}.ratio": operation.ratio}
    elif isinstance(operation, Gamma):
        ranges = {f"{name}.low and .high": (operation.low, operation.high)}
    for key, (low, high) in ranges.items():
        if low > high:
            return f"{key} must go from the smaller to the larger number, not from {low:g} to {high:g}."
    return ""


def _misfit(operation: Augmentation, size: int, after: int, name: str) -> str:
    """Return the reason if an operation cannot turn images of `size` px into ones of `after` px; else empty."""
    if isinstance(operation, Resize) and not 1 <= after <= _MAX_PIXELS:
        return f"{name} resizes to {after} px; change its scale so that it comes to between 1 and {_MAX_PIXELS} px."
    if not isinstance(operation, RandomCrop | CenterCrop):
        return ""
    padding = operation.padding if isinstance(operation, RandomCrop) else 0
    if isinstance(operation, RandomCrop) and operation.fill == "reflect" and padding >= size:
        return f"{name}.padding must be below {size}, the side of the image that it mirrors, not {padding}."
    if after > size + 2 * padding:
        padded = f", padded to {size + 2 * padding} px" if padding else ""
        return (
            f"{name} cuts {after} px out of an image of {size} px{padded}; "
            'put { op = "resize" } before it, or make the crop smaller.'
        )
    return ""


def _size_after(operation: Augmentation, image_size: int, size: int) -> int:
    """Return the side in pixels after an operation on images of `size` px."""
    match operation:
        case Resize():
            return operation.size or round(image_size * operation.scale)
        case CenterCrop() | RandomCrop() | RandomResizedCrop():
            return operation.size or image_size
        case _:
            return size
