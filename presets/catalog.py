"""Catalog of presets, and their loader: find, extend, override, check. No training.

Shipped presets are beside this file, users' in the configuration folder. Fast to import, because the first screen
lists presets.
"""

import functools
import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args

import msgspec
import platformdirs
from msgspec import Struct, structs

from presets import backbones
from presets.checks import check, faults
from presets.config_layers import ConfigLayer, blame, extended_name, lay, override_layers, read_table
from presets.errors import CifartuiError
from presets.problems import explain, nearest, printable
from presets.schema import Data, Preset

__all__ = ["Listed", "amend", "check", "list_presets", "load", "printable", "user_folder"]

_SHIPPED = Path(__file__).parent
_GROUP_ORDER = {"demo": 0, "report": 1, "yours": 3}
_Files: TypeAlias = dict[str, Path]


class Listed(Struct, frozen=True):
    """A preset that was found. `problem` is the reason if it cannot be used; else empty."""

    name: str
    path: Path
    preset: Preset | None
    problem: str
    extends: str = ""
    """The preset that its file names under `extends`, if any."""


class _Library:
    """All preset files, each read once: listing them must not delay the first screen."""

    def __init__(self) -> None:
        self.shipped = _find(_SHIPPED)
        self.files = {**self.shipped, **_find(user_folder())}
        self._tables: dict[Path, dict[str, Any]] = {}
        self._real: dict[Path, str] = {}
        self.ours = frozenset(map(self.real, self.shipped.values()))

    def real(self, path: Path) -> str:
        """Return a file's name without links in it."""
        if path not in self._real:
            self._real[path] = os.path.realpath(path)
        return self._real[path]

    def table(self, path: Path) -> dict[str, Any]:
        """Return a copy of the content of a file; see `read_table`."""
        if path not in self._tables:
            self._tables[path] = read_table(path)
        return dict(self._tables[path])


def user_folder() -> Path:
    """Return the folder of the user's own presets, which need not exist."""
    return platformdirs.user_config_path("cifartui") / "presets"


def list_presets() -> list[Listed]:
    """Return every preset, broken ones included: demo, report, other groups by name, the user's own.

    A user's preset takes the place of a shipped one of the same name.
    """
    library = _Library()
    listed = []
    for name, path in library.files.items():
        try:
            preset = _load(path, (), library)
            parent = extended_name(library.table(path), str(path)) or ""
            listed.append(Listed(name, path, preset, "", parent))
        except CifartuiError as error:
            listed.append(Listed(name, path, None, str(error)))
    return sorted(listed, key=_sort_key)


def names() -> list[str]:
    """Return the names of all presets, whose files are not read."""
    return sorted(_Library().files)


def load(name: str, overrides: Sequence[str] = ()) -> Preset:
    """Return a preset with everything it extends and every override applied, checked.

    Args:
        name: A preset's name, or a path to a file (anything that ends in .toml, or is a file).
        overrides: `key.path=value`, the value as TOML or as a plain word.

    Raises:
        CifartuiError: whatever is wrong with it, in one sentence.
    """
    return _load_named(name, overrides, _Library())


def data_of(name: str) -> Data | None:
    """Return the data of the preset of that name, without overrides; None if there is none, or it cannot be used."""
    library = _Library()
    path = library.files.get(name)
    try:
        return None if path is None else _load(path, (), library).data
    except CifartuiError:
        return None


def file_of(name: str) -> str:
    """Return the absolute path of the file that `load` reads for a name that is a path; "" for a preset's name."""
    if name in _Library().files:
        return ""
    return os.path.abspath(_expanded(name))  # noqa: PTH100 (without a look at links)


def loader() -> Callable[[str, Sequence[str]], Preset]:
    """Return a `load` for several presets in a row: it reads each file once, as it is now."""
    library = _Library()
    return lambda name, overrides: _load_named(name, overrides, library)


def _load_named(name: str, overrides: Sequence[str], library: _Library) -> Preset:
    path = library.files.get(name)
    if path is None:
        if not name.endswith(".toml") and not _is_file(Path(name)):
            hint = nearest(name, library.files) or "; `cifartui presets` lists them."
            raise CifartuiError(f'There is no preset called "{printable(name)}"{hint}')
        path = _expanded(name)
    return _load(path, overrides, library)


def amend(preset: Preset, overrides: Sequence[str]) -> Preset:
    """Return a preset with overrides applied, checked; see `load`.

    Raises:
        CifartuiError: whatever is wrong with it, in one sentence.
    """
    return _checked([ConfigLayer(label="The preset", table=msgspec.to_builtins(preset)), *override_layers(overrides)])


def _load(path: Path, overrides: Sequence[str], library: _Library) -> Preset:
    label = printable(str(path))
    try:
        return _checked([*_chain(path, library), *override_layers(overrides)])
    except RecursionError:
        raise CifartuiError(f"{label} nests tables or lists too deeply; a preset needs three levels.") from None
    except (OSError, ValueError):  # such as a zero byte in a file name, or a current folder that was removed
        raise CifartuiError(f"{label} cannot be read; check its name and the folder you are in.") from None


def _checked(layers: Sequence[ConfigLayer]) -> Preset:
    table = {name: _without_unset(name, value) for name, value in lay(layers).items()}
    unknown = backbones.fill_in(table)
    try:
        preset = msgspec.convert(table, Preset)
        fault = unknown or next(faults(preset), None)
    except msgspec.ValidationError as error:
        fault = explain(error, table, Preset)
    if fault is not None:
        raise CifartuiError(f"{blame(layers, fault.keys)}: {fault.text}")
    return preset


def _without_unset(name: str, value: Any) -> Any:
    """Return a preset's table without the keys that it sets to "none", if they may be left out."""
    if not isinstance(value, dict) or "none" not in value.values():
        return value
    kinds = [kind for kind in _kinds(name) if value.get(kind.__struct_config__.tag_field) == kind.__struct_config__.tag]
    optional = {field.name for kind in kinds for field in structs.fields(kind) if field.default is None}
    return {key: each for key, each in value.items() if each != "none" or key not in optional}


@functools.cache
def _kinds(name: str) -> tuple[type[Struct], ...]:
    """Return what a preset's table of this name may be in the schema; nothing if there is no such table."""
    types = [get_args(field.type) or (field.type,) for field in structs.fields(Preset) if field.name == name]
    return tuple(kind for kind in itertools.chain(*types) if isinstance(kind, type) and issubclass(kind, Struct))


def _chain(path: Path, library: _Library) -> list[ConfigLayer]:
    """Return the file at `path` and all that it extends as layers, the most basic first."""
    ours, shipped, files = library.ours, library.shipped, library.files
    is_shipped = library.real(path) in ours
    layers: list[ConfigLayer] = []
    seen: list[str] = []
    current: Path | None = path
    while current is not None:
        label = printable(str(current))
        real = library.real(current)
        if real in seen:
            circle = " → ".join(printable(Path(file).name) for file in [*seen[seen.index(real) :], real])
            raise CifartuiError(f"{printable(str(path))}: extends goes in a circle ({circle}); take one of them out.")
        seen.append(real)
        table = library.table(current)
        name = extended_name(table, label)
        if real in ours and not is_shipped:
            table.pop("group", None)  # a user's variation of a shipped preset is one of "yours"
        layers.insert(0, ConfigLayer(label=label, table=table))
        current = None if name is None else _extended(name, current, shipped if real in ours else files, library)
    return layers


def _extended(name: str, path: Path, files: _Files, library: _Library) -> Path:
    """Return the file that `extends = name` in `path` names."""
    found, shipped = files.get(name), library.shipped
    if found is not None and name in shipped and library.real(found) == library.real(path):
        return shipped[name]  # the user's vgg-custom extends the shipped vgg-custom that it replaces
    if found is not None:
        return found
    label = printable(str(path))
    if not name.endswith(".toml"):
        hint = nearest(name, files) or "; `cifartui presets` lists them."
        raise CifartuiError(f'{label}: extends names "{printable(name)}", which is no preset{hint}')
    other = path.parent / _expanded(name)
    if not _is_file(other):
        raise CifartuiError(f'{label}: extends names the file "{printable(name)}", which does not exist there.')
    return other


def _find(folder: Path) -> _Files:
    """Return the .toml files under `folder` by preset name."""
    files: _Files = {}
    for parent, _, names in os.walk(folder):
        for file in sorted(names):
            path = Path(parent, file)
            if path.suffix == ".toml":
                files[printable(path.relative_to(folder).with_suffix("").as_posix())] = path
    return files


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def _expanded(name: str) -> Path:
    return Path(os.path.expanduser(name))  # noqa: PTH111 (Path.expanduser raises where there is no home)


def _sort_key(listed: Listed) -> tuple[int, str, list[str | int]]:
    group = listed.preset.group if listed.preset else "yours"
    parts = re.split(r"([0-9]+)", listed.name)
    natural = [int(part) if index % 2 else part for index, part in enumerate(parts)]
    return _GROUP_ORDER.get(group, 2), group, natural
