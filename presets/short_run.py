"""Short runs of a preset: its first stage at another learning rate, in fewer epochs or on fewer images. No training.

They are made as overrides, so that a run records them as it does those of a user. The preset's own schedule runs to
its end in them: what it counts in epochs is shortened with the rest.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from presets.plan import plan
from presets.range_test import with_lr
from presets.schema import Cosine, FreezableModel, Muon, Optimizer, Plateau, Preset, Schedule, Step


class Length(NamedTuple):
    """Length of a short run: its epochs, and the training images of each."""

    epochs: int
    num_images: int


def short_run(preset: Preset, lr: float, length: Length, num_images: int) -> tuple[str, ...]:
    """Return the overrides that make a short run of `preset`.

    Args:
        preset: checked.
        lr: of its first stage; Muon's other rate keeps its proportion.
        length: of the run.
        num_images: training images that the preset has.
    """
    stage = plan(preset)[0]
    share = min(1.0, length.epochs / stage.epochs)
    optimizer, schedule = with_lr(stage.optimizer, lr), _shortened(stage.schedule, share)
    if isinstance(optimizer, Muon):
        optimizer = replace(optimizer, other_lr=float(f"{optimizer.other_lr:.4g}"))
    changes: list[tuple[str, Any]] = []
    if preset.stages:
        changes += [("stages", []), ("train.augment", msgspec.to_builtins(stage.augment))]
        if isinstance(preset.model, FreezableModel) and preset.model.frozen != stage.frozen:
            changes.append(("model.frozen", stage.frozen))
    if stage.optimizer == preset.optimizer:
        changes += _rates(optimizer)
    else:
        changes.append(("optimizer", msgspec.to_builtins(optimizer)))
    changes.append(("train.epochs", length.epochs))
    if stage.schedule == preset.schedule:
        changes += _changed("schedule", stage.schedule, schedule)
    else:
        changes.append(("schedule", msgspec.to_builtins(schedule)))
    if preset.train.epochs_scale != 1:
        changes.append(("train.epochs_scale", 1.0))
    if preset.train.max_minutes is not None:
        changes.append(("train.max_minutes", "none"))
    if preset.train.feature_views is not None and length.epochs < preset.train.feature_views:
        changes.append(("train.feature_views", length.epochs))
    if preset.mix.off_epochs:
        changes.append(("mix.off_epochs", round(share * preset.mix.off_epochs)))
    if length.num_images < num_images:
        changes.append(("data.train_limit", length.num_images))
    return tuple(f"{key}={_toml(value)}" for key, value in changes)


def probe(preset: Preset, lr: float, minutes: float) -> tuple[str, ...]:
    """Return the overrides of the run that measures how long an epoch takes: one epoch, cut off after `minutes`."""
    whole = short_run(preset, lr, Length(1, 0), 0)
    return (
        *(change for change in whole if not change.startswith("train.max_minutes=")),
        f"train.max_minutes={minutes:g}",
    )


def _shortened(schedule: Schedule, share: float) -> Schedule:
    """Return a schedule for that share of its epochs; those that count in fractions stay."""
    match schedule:
        case Cosine():
            return replace(schedule, warmup_epochs=round(share * schedule.warmup_epochs, 4))
        case Step():
            return replace(schedule, every=max(1, round(share * schedule.every)))
        case Plateau():
            return replace(schedule, patience=round(share * schedule.patience))
        case _:
            return schedule


def _rates(optimizer: Optimizer) -> list[tuple[str, Any]]:
    rates: list[tuple[str, Any]] = [("optimizer.lr", optimizer.lr)]
    if isinstance(optimizer, Muon):
        rates.append(("optimizer.other_lr", optimizer.other_lr))
    return rates


def _changed(table: str, before: Schedule, after: Schedule) -> list[tuple[str, Any]]:
    old = msgspec.to_builtins(before)
    return [(f"{table}.{key}", value) for key, value in msgspec.to_builtins(after).items() if value != old[key]]


def _toml(value: Any) -> str:
    """Return a value as TOML writes it within a line; keys without a value are left out, as TOML has none for them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items() if part is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)  # as TOML has text, whole numbers, true and false
