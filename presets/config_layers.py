"""Configuration layers of a preset: its file, the files it extends, and the --set overrides. No schema.

A layer is one of these, as plain TOML values; merged in their order they give the table that `presets.catalog`
checks against the schema.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli
from msgspec import Struct

from presets.errors import CifartuiError
from presets.problems import KeyPath, printable, shown

_MAX_FILE_BYTES = 262_144
_CHOOSERS = {"model": "network", "optimizer": "name", "schedule": "name"}
"""The key of a table that decides which other keys the table may hold."""
_PLAIN_WORDS = re.compile(r"[A-Za-z_~/.][\w ~/.+:@%()-]*")
_FILE_NAME = re.compile(r"/|^~|\.(pt|pth|ckpt|bin|safetensors)$")
"""Pattern of a weights file, as opposed to torchvision's names for weights."""
_PUBLISHED = re.compile(r"none|default|IMAGENET[A-Z0-9_]*")
"""Pattern of no weights and of the names of published ones, which are not files even if one has that name."""


class ConfigLayer(Struct, frozen=True, kw_only=True):
    """One source of values, laid over the layers before it."""

    label: str
    """Source for the user: a file name, or "--set optimizer.lr=0.1"."""
    table: dict[str, Any]
    is_override: bool = False


def read_table(path: Path, what: str = "a preset") -> dict[str, Any]:
    """Return the content of a TOML file that is `what`; a weights file named in it is taken from the same folder.

    Raises:
        CifartuiError: the file cannot be read or is not TOML.
    """
    label = printable(str(path))
    try:
        if path.exists() and not path.is_file():
            raise CifartuiError(f"{label} is a folder or a device, not {what}; name a .toml file.")
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise CifartuiError(f"{label} does not exist; `cifartui presets` lists the presets there are.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a possible file name"
        raise CifartuiError(f"{label} cannot be read ({reason}); check its name and permissions.") from None
    if len(raw) > _MAX_FILE_BYTES:
        raise CifartuiError(f"{label} is larger than 256 kB, so it is not {what}; name another .toml file.")
    try:
        table = tomli.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CifartuiError(f"{label} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise CifartuiError(f"{label} is not valid TOML: {_reason(error)}; correct it there.") from None
    return _with_absolute_weights(table, path.parent)


def override_layers(overrides: Sequence[str]) -> list[ConfigLayer]:
    """Return a layer for every `key.path=value`; a value that is no TOML but plain words is taken as text.

    Raises:
        CifartuiError: there is no "=", no key, or the value is neither TOML nor plain words.
    """
    layers = []
    for override in overrides:
        label = printable(f"--set {override}", longest=80)
        key, equals, text = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise CifartuiError(f"{label} is not of the form key.path=value, such as optimizer.lr=0.1.")
        table: Any = _value(text.strip(), label)
        for part in reversed(parts):
            table = {part: table}
        layers.append(ConfigLayer(label=label, table=_with_absolute_weights(table, Path()), is_override=True))
    return layers


def _value(text: str, label: str) -> Any:
    try:
        table = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        table = {}
    if set(table) == {"value"}:
        return table["value"]
    if _PLAIN_WORDS.fullmatch(text):
        return text
    raise CifartuiError(
        f"{label} has no value that TOML knows: write a number, true or false, a list such as [64, 64], "
        'a word, or text in "quotes".'
    )


def lay(layers: Sequence[ConfigLayer]) -> dict[str, Any]:
    """Return the layers laid over each other, the last on top; all overrides count as one layer."""
    result: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for layer in layers:
        if layer.is_override:
            overrides = _deep_merge(overrides, layer.table)
        else:
            result = _inherit(_with_results_of(layer.table, result), layer.table)
    return _inherit(result, overrides)


def is_same_set(data: tuple[object, object], own: tuple[object, object]) -> bool:
    """Return whether two pairs of `dataset` and `path` are one data set; a published one is, wherever it lies."""
    return data[0] == own[0] and (data[0] != "class-folders" or _place(data[1]) == _place(own[1]))


def _place(path: object) -> str | None:
    if not isinstance(path, str) or path == "none":
        return None
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 (without a look at links, or at the home)


def _with_results_of(child: dict[str, Any], parent: dict[str, Any]) -> dict[str, Any]:
    """Return `parent` without its published results if a file that extends it names another data set."""
    inherited, table = parent.get("data"), child.get("data")
    if not isinstance(inherited, dict) or not isinstance(table, dict):
        return parent
    before, now = ((each.get("dataset"), each.get("path")) for each in (inherited, {**inherited, **table}))
    return parent if is_same_set(now, before) else {key: each for key, each in parent.items() if key != "report"}


def blame(layers: Sequence[ConfigLayer], keys: Sequence[KeyPath]) -> str:
    """Return the label of the layer that last wrote one of `keys`; of the file itself if none did."""
    for layer in reversed(layers):
        if any(_holds(layer.table, key) for key in keys):
            return layer.label
    return [layer for layer in layers if not layer.is_override][-1].label


def _holds(table: object, key: KeyPath) -> bool:
    for part in key:
        if isinstance(table, list):
            return True  # lists are written as a whole
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True


def _inherit(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """Return `child` over `parent`: tables key by key, unless the child's replaces the parent's.

    That is `report` (results belong to exactly one preset), and a table that names another network,
    optimizer or schedule than the inherited one, whose keys would mean nothing to it. A file that brings
    stages does away with the inherited `train.epochs` and `train.augment`, which they replace.
    """
    kept = dict(parent)
    train = kept.get("train")
    if child.get("stages") and isinstance(train, dict):
        kept["train"] = {key: value for key, value in train.items() if key not in {"epochs", "augment"}}
    for name, table in child.items():
        chooser = _CHOOSERS.get(name)
        inherited = parent.get(name)
        is_another = (
            chooser is not None
            and isinstance(table, dict)
            and isinstance(inherited, dict)
            and chooser in table
            and table[chooser] != inherited.get(chooser)
        )
        if name == "report" or is_another:
            kept.pop(name, None)
    return _deep_merge(kept, child)


def _deep_merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _deep_merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _with_absolute_weights(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Take a weights file from `folder`, in place: the worker, which opens it, runs in another one."""
    model = table.get("model")
    weights = model.get("weights") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(weights, str) and _is_file(weights, folder):
        expanded = os.path.expanduser(weights)  # noqa: PTH111 (Path.expanduser raises where there is no home)
        model["weights"] = str((folder / expanded).absolute())
    return table


def _is_file(weights: str, folder: Path) -> bool:
    """Return true if `model.weights` means a file: by its form, or because `folder` has one of that name."""
    if _PUBLISHED.fullmatch(weights):
        return False
    return bool(_FILE_NAME.search(weights)) or os.path.isfile(folder / weights)  # noqa: PTH113 (Path.is_file raises)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "tables or lists are nested too deeply"
    return printable(str(error), longest=160).rstrip(".")


def extended_name(table: dict[str, Any], label: str) -> str | None:
    """Take `extends` out of a file's table and return it, or None if it extends nothing.

    Raises:
        CifartuiError: `extends` is not text.
    """
    name = table.pop("extends", None)
    if name is not None and (not isinstance(name, str) or not name):
        raise CifartuiError(f'{label}: extends must be the name of a preset such as "vgg-custom", not {shown(name)}.')
    return name
