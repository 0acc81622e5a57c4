"""What is asked for before a run starts: the fields, and what is wrong with what was typed into them.

Knows presets and their overrides; knows no widgets and starts nothing.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from engine.runs.run_options import SEED_BELOW, RunOptions
from engine.shared.device_names import MOST_DEVICES, check_devices, is_device_name
from presets.errors import CifartuiError
from presets.problems import shown
from presets.schema import Preset

Load: TypeAlias = Callable[[str, Sequence[str]], Preset]
"""Loads a preset with overrides; raises CifartuiError where one is not valid."""

SEED, DEVICE, DEVICES, CHANGES = "seed", "device", "devices", "changes"
_SEED = re.compile("[0-9]{1,10}")
_DEVICES = re.compile("[0-9]{1,4}")


class Field(Struct, frozen=True, kw_only=True):
    """Something that can be set: a key of the preset, or one of the run (then `key` is empty)."""

    id: str
    label: str
    key: str = ""
    initial: str
    """What holds if nothing is typed; empty where several presets differ."""
    hint: str = ""


class Checked(Struct, frozen=True, kw_only=True):
    """What was typed comes to: an order and the presets as it makes them, or sentences by the id of their field."""

    options: RunOptions | None = None
    presets: tuple[Preset, ...] = ()
    errors: dict[str, str] = {}


def fields_of(presets: Sequence[Preset]) -> tuple[Field, ...]:
    """Return the usual fields, filled with what `presets` have in common; the line for all other keys is last."""
    if any(preset.stages for preset in presets):
        epochs = _field(
            "epochs", "epochs ×", "train.epochs_scale", [_number(preset.train.epochs_scale) for preset in presets],
            "of every stage: 0.1 is a tenth",
        )  # fmt: skip
    else:
        epochs = _field("epochs", "epochs", "train.epochs", [str(preset.train.epochs) for preset in presets])
    return (
        epochs,
        _field("batch", "batch size", "train.batch_size", [str(preset.train.batch_size) for preset in presets]),
        _field("lr", "lr", "optimizer.lr", [_number(preset.optimizer.lr) for preset in presets], "learning rate"),
        _field("size", "image size", "data.image_size", [str(preset.data.image_size) for preset in presets], "pixels"),
        Field(id=SEED, label="seed", initial="0", hint="another one, other random numbers"),
        Field(id=DEVICE, label="device", initial="auto", hint="auto, cpu, cuda, cuda:1, mps"),
        Field(id=DEVICES, label="devices", initial="1", hint="how many, one process each"),
        Field(id=CHANGES, label="changes", initial=""),
    )


def _field(name: str, label: str, key: str, values: Sequence[str], hint: str = "") -> Field:
    is_same = len(set(values)) == 1
    return Field(
        id=name, label=label, key=key, initial=values[0] if is_same else "", hint=hint if is_same else "now they differ"
    )


def _number(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def check(names: Sequence[str], load: Load, fields: Sequence[Field], typed: Mapping[str, str]) -> Checked:
    """Return what `typed` (text by field id) comes to for the presets called `names`.

    An empty field means what it was filled with. Where no field is wrong by itself, their combination is named
    under the line of changes.
    """
    changed = {
        field.id: f"{field.key}={text}"
        for field in fields
        if field.key and (text := typed.get(field.id, "").strip()) and text != field.initial
    }
    seed, device = typed.get(SEED, "").strip() or "0", typed.get(DEVICE, "").strip() or "auto"
    errors = {}
    if not (_SEED.fullmatch(seed) and int(seed) < SEED_BELOW):
        errors[SEED] = f"seed must be a whole number from 0 to {SEED_BELOW - 1:,}, not {shown(seed)}."
    if not is_device_name(device):
        errors[DEVICE] = f"device must be auto, cpu, cuda, cuda:N or mps, not {shown(device)}."
    devices = typed.get(DEVICES, "").strip() or "1"
    if not _DEVICES.fullmatch(devices):
        errors[DEVICES] = f"devices must be a whole number from 1 to {MOST_DEVICES}, not {shown(devices)}."
    elif DEVICE not in errors:
        try:
            check_devices(device, int(devices))
        except CifartuiError as error:
            errors[DEVICES] = str(error)
    free: list[str] = []
    try:
        free = shlex.split(typed.get(CHANGES, ""))
    except ValueError:
        errors[CHANGES] = "A quotation mark is not closed."
    overrides = (*changed.values(), *free)
    try:
        presets = _load_all(names, load, overrides)
    except CifartuiError as error:
        errors |= _blamed(names, load, changed, free) or {CHANGES: str(error)}
    if errors:
        return Checked(errors=errors)
    options = RunOptions(overrides=overrides, seed=int(seed), device=device, devices=int(devices))
    return Checked(options=options, presets=presets)


def _load_all(names: Sequence[str], load: Load, overrides: Sequence[str]) -> tuple[Preset, ...]:
    loaded = []
    for name in names:
        try:
            loaded.append(load(name, overrides))
        except CifartuiError as error:
            raise CifartuiError(f"{name}: {error}" if len(names) > 1 else str(error)) from error
    return tuple(loaded)


def _blamed(names: Sequence[str], load: Load, changed: Mapping[str, str], free: Sequence[str]) -> dict[str, str]:
    """Return what is wrong with each field by itself."""
    errors = {}
    alone = {**{field: [override] for field, override in changed.items()}, **({CHANGES: free} if free else {})}
    for field, overrides in alone.items():
        try:
            _load_all(names, load, overrides)
        except CifartuiError as error:
            errors[field] = str(error).replace(f"--set {overrides[0]}: ", "") if field != CHANGES else str(error)
    return errors
