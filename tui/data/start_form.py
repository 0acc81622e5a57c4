"""Form of the start dialog: its fields, the validation of their texts, and of the files they name. No widgets."""

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from engine.runs.needed_files import check_split, check_weights
from engine.runs.run_options import SEED_BELOW, RunOptions
from engine.runs.seed_groups import parse_seeds
from engine.shared.data_locations import is_fetched
from engine.shared.data_path import NamedData, dataset_override, path_override
from engine.shared.device_names import MOST_DEVICES, check_devices, is_device_name
from engine.shared.gpus import visible_gpus
from presets.config_layers import override_layers
from presets.errors import CifartuiError
from presets.problems import printable, shown
from presets.schema import Data, Model, Preset
from tui import format as fmt
from tui.data.environment import Environment, GpuReadings

Load: TypeAlias = Callable[[str, Sequence[str]], Preset]
"""Loads a preset with overrides; raises CifartuiError where one is not valid."""

DATA, SEED, SEEDS, DEVICE, DEVICES, CHANGES = "data", "seed", "seeds", "device", "devices", "changes"
NOT_IN_RANGE_TEST = frozenset({"epochs", "lr", SEEDS, DEVICES})
"""Fields without effect on a range test."""
_PATH = "data.path"
_SEED = re.compile("[0-9]{1,10}")
_DEVICES = re.compile("[0-9]{1,4}")


class Field(Struct, frozen=True, kw_only=True):
    """Something that can be set: a key of the preset, or one of the run (then `key` is empty)."""

    id: str
    label: str
    key: str = ""
    initial: str
    """The value that holds if nothing is typed; empty if several presets differ."""
    hint: str = ""


class NeededFiles(Struct, frozen=True):
    """Files that presets need as typed. They may lie on a slow disk, so a thread looks at them (`find_files`)."""

    data: str = ""
    """The path typed; empty if the presets' own data is used."""
    presets: tuple[tuple[Data, Model], ...] = ()
    """Own data and network of each."""
    dataset: str = ""
    """The data set at that path that is asked for by name; empty if none is."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs, where a fraction of the training images is held back by them."""


class FoundFiles(Struct, frozen=True, kw_only=True):
    """Result of looking at needed files: the data at the path typed, or errors by the id of their field."""

    data: NamedData | None = None
    errors: dict[str, str] = {}


class Checked(Struct, frozen=True, kw_only=True):
    """Result of the validation: run options and the presets with them, or errors by the id of their field."""

    options: RunOptions | None = None
    presets: tuple[Preset, ...] = ()
    errors: dict[str, str] = {}
    warnings: dict[str, str] = {}
    """By the id of their field: what may be wrong, and keeps nobody from starting."""
    waits_for: NeededFiles | None = None
    """Files that are still to be looked at; then there are no options yet."""


def fields_of(presets: Sequence[Preset]) -> tuple[Field, ...]:
    """Return the usual fields, filled with the values that `presets` share; the line for all other keys is last."""
    if any(preset.stages for preset in presets):
        epochs = _field(
            "epochs", "epochs ×", "train.epochs_scale", [_number(preset.train.epochs_scale) for preset in presets],
            "of every stage: 0.1 is a tenth",
        )  # fmt: skip
    else:
        epochs = _field("epochs", "epochs", "train.epochs", [str(preset.train.epochs) for preset in presets])
    paths = {preset.data.path or "" for preset in presets}
    return (
        Field(id=DATA, label="data", initial=paths.pop() if len(paths) == 1 else ""),
        epochs,
        _field("batch", "batch size", "train.batch_size", [str(preset.train.batch_size) for preset in presets]),
        _field("lr", "lr", "optimizer.lr", [_number(preset.optimizer.lr) for preset in presets], "learning rate"),
        _field("size", "image size", "data.image_size", [str(preset.data.image_size) for preset in presets], "pixels"),
        Field(id=SEED, label="seed", initial="0", hint="another one, other random numbers"),
        Field(id=SEEDS, label="seeds", initial="1", hint="3: so many runs; 1,2,5: these"),
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


def typed_for(fields: Sequence[Field], options: RunOptions) -> dict[str, str]:
    """Return the texts by field id that `check` makes `options` of: those of a run, to be started again."""
    by_key = {field.key: field.id for field in fields if field.key}
    typed = {SEED: str(options.seed), DEVICE: options.device, DEVICES: str(options.devices)}
    path = path_override(options.overrides)
    free = []
    for override, layer in zip(options.overrides, override_layers(options.overrides), strict=True):
        key, _, value = (part.strip() for part in override.partition("="))
        if key in by_key:
            typed[by_key[key]] = value
        elif key == _PATH:
            typed[DATA] = str(layer.table["data"]["path"])
        elif not (key == "data.dataset" and path is not None):  # the path decides
            free.append(shlex.quote(override))
    return {**typed, CHANGES: " ".join(free)}


# --- validation ------------------------------------------------------------------------------------


def check(
    names: Sequence[str],
    load: Load,
    fields: Sequence[Field],
    typed: Mapping[str, str],
    found: Callable[[NeededFiles], FoundFiles | None] = lambda _: FoundFiles(),
) -> Checked:
    """Validate `typed` (text by field id) for the presets called `names`.

    An empty field means its initial value. If no field is wrong by itself, the error of their combination is
    given for the line of changes.

    Args:
        names: of presets.
        load: loads them.
        fields: from `fields_of`.
        typed: text by field id.
        found: returns what `find_files` found; None before that.
    """
    changed = {
        field.id: f"{field.key}={text}"
        for field in fields
        if field.key and (text := typed.get(field.id, "").strip()) and text != field.initial
    }
    seed, device = typed.get(SEED, "").strip() or "0", typed.get(DEVICE, "").strip() or "auto"
    devices, path = typed.get(DEVICES, "").strip() or "1", typed.get(DATA, "").strip()
    path = "" if any(field.id == DATA and field.initial == path for field in fields) else path
    errors = _wrong_numbers(seed, device, devices)
    seeds: tuple[int, ...] = ()
    try:
        seeds = parse_seeds(typed.get(SEEDS, "").strip() or "1", int(seed) if SEED not in errors else 0)
    except CifartuiError as error:
        errors[SEEDS] = str(error)
    free: list[str] = []
    try:
        free = shlex.split(typed.get(CHANGES, ""))
        if path and path_override(free) is not None:
            errors[CHANGES] = f"{_PATH} is set by the data field too; leave one of them out."
    except ValueError:
        errors[CHANGES] = "A quotation mark is not closed."
    except CifartuiError as error:
        errors[CHANGES] = _without_option(str(error))
    overrides = (*changed.values(), *free)
    presets: tuple[Preset, ...] = ()
    if CHANGES not in errors:
        try:
            presets = _load_all(names, load, overrides)
        except CifartuiError as error:
            errors |= _blamed(names, load, changed, free) or {CHANGES: _without_option(str(error))}
    asked = dataset_override(overrides) if presets else None
    needed = NeededFiles(path, tuple((preset.data, preset.model) for preset in presets), str(asked or ""))
    if (
        SEED not in errors
        and SEEDS not in errors
        and any(preset.data.validation != "every-tenth" for preset in presets)
    ):
        needed = replace(needed, seeds=seeds)
    files = found(needed)
    errors = {**(files.errors if files is not None else {}), **errors}
    if files is not None and files.data is not None and not errors:
        overrides = (*files.data.overrides, *overrides)
        try:
            presets = _load_all(names, load, overrides)
        except CifartuiError as error:
            errors[DATA] = _without_option(str(error))
    if errors or files is None:
        return Checked(errors=errors, waits_for=needed if files is None else None)
    options = RunOptions(
        overrides=overrides, seed=int(seed), device=device, devices=int(devices),
        seeds=seeds if len(seeds) > 1 else (),
    )  # fmt: skip
    return Checked(options=options, presets=presets)


def _wrong_numbers(seed: str, device: str, devices: str) -> dict[str, str]:
    errors = {}
    if not (_SEED.fullmatch(seed) and int(seed) < SEED_BELOW):
        errors[SEED] = f"seed must be a whole number from 0 to {SEED_BELOW - 1:,}, not {shown(seed)}."
    if not is_device_name(device):
        errors[DEVICE] = f"device must be auto, cpu, cuda, cuda:N or mps, not {shown(device)}."
    if not _DEVICES.fullmatch(devices):
        errors[DEVICES] = f"devices must be a whole number from 1 to {MOST_DEVICES}, not {shown(devices)}."
    elif DEVICE not in errors:
        try:
            check_devices(device, int(devices))
        except CifartuiError as error:
            errors[DEVICES] = str(error)
    if device == "mps" and sys.platform != "darwin":
        errors[DEVICE] = "mps is the GPU of a Mac, which this machine is not; type auto."
    return errors


def device_warnings(options: RunOptions, readings: GpuReadings | None, visible: str | None) -> dict[str, str]:
    """Return by field id which of the devices asked for are not among the GPUs read; see `Checked.warnings`.

    They are no errors: torch may see GPUs that NVIDIA's library does not.

    Args:
        options: with the devices asked for.
        readings: the latest ones.
        visible: CUDA_VISIBLE_DEVICES, by which a run counts GPUs.
    """
    gpus = None if readings is None else visible_gpus(readings.gpus, visible)
    if readings is None or gpus is None or not options.device.startswith("cuda"):
        return {}
    if not gpus:
        why = readings.missing or "CUDA_VISIBLE_DEVICES hides them"
        return {DEVICE: f"No GPU is found here ({why}), so {options.device} may not be there; auto takes what is."}
    number = int(options.device.partition(":")[2] or 0)
    there = f"{fmt.plural(len(gpus), 'GPU')} {'is' if len(gpus) == 1 else 'are'} found here"
    if number >= len(gpus):
        return {DEVICE: f"{there}, so there is no {options.device}; the last one is cuda:{len(gpus) - 1}."}
    if options.devices > len(gpus):
        return {DEVICES: f"{there}, and {options.devices} are asked for."}
    return {}


def _load_all(names: Sequence[str], load: Load, overrides: Sequence[str]) -> tuple[Preset, ...]:
    loaded = []
    for name in names:
        try:
            loaded.append(load(name, overrides))
        except CifartuiError as error:
            raise CifartuiError(f"{name}: {error}" if len(names) > 1 else str(error)) from error
    return tuple(loaded)


def _blamed(names: Sequence[str], load: Load, changed: Mapping[str, str], free: Sequence[str]) -> dict[str, str]:
    """Return the errors of each field by itself."""
    errors = {}
    alone = {**{field: [override] for field, override in changed.items()}, **({CHANGES: free} if free else {})}
    for field, overrides in alone.items():
        try:
            _load_all(names, load, overrides)
        except CifartuiError as error:
            label = f"{printable(f'--set {overrides[0]}', longest=80)}: " if field != CHANGES else "--set "
            errors[field] = str(error).replace(label, "", 1)
    return errors


def _without_option(text: str) -> str:
    """Return a sentence without the name of an option that is none of the dialog's."""
    return text.replace("--set ", "", 1)


# --- files -----------------------------------------------------------------------------------------


def find_files(
    needed: NeededFiles, environment: Environment, data_dir: str | None, poll: Callable[[], object]
) -> FoundFiles:
    """Find the files that are needed; may take long. `poll` is called now and then, and its exceptions come through."""
    errors: dict[str, str] = {}
    data, judged = None, set()
    if needed.data:
        try:
            labels = next((own.labels for own, _ in needed.presets if own.labels is not None), None)
            data = environment.data_at(needed.data, poll, labels, needed.dataset or None)
        except CifartuiError as error:
            errors[DATA] = _without_option(str(error))
    for own, network in needed.presets:
        poll()
        if not needed.data and (problem := _absent(own, environment, data_dir)):
            errors.setdefault(DATA, problem)
        try:
            check_weights(network)
            used = own if data is None else replace(own, dataset=data.dataset, path=data.path)
            divided = (used.dataset, used.path, used.labels, used.validation)
            if DATA not in errors and divided not in judged:
                judged.add(divided)
                check_split(environment.locate(used, data_dir), used, needed.seeds, poll)
        except CifartuiError as error:
            errors.setdefault(CHANGES, str(error))
    return FoundFiles(data=data, errors=errors)


def _absent(data: Data, environment: Environment, data_dir: str | None) -> str:
    """Return why a preset's own data cannot be had; empty if it is there, or is fetched at the start."""
    if data.dataset == "class-folders" and data.path is None:
        found = environment.locate(data, data_dir)
        return "" if found.kind != "absent" else "Type the path of your images: a folder with a folder for each class."
    found = environment.locate(data, data_dir)
    if found.kind != "absent" or is_fetched(data):
        return ""
    return f"{found.text[0].upper()}{found.text[1:]}; type the path of the data here."
