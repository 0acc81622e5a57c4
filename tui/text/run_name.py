"""Names of runs: the preset, random digits, and the settings in which a run differs from its preset. No file access.

A name is shortened so that the settings stay, those first in which runs of one preset differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TypeAlias

import msgspec
from rich.cells import cell_len

from engine.runs.run_dir import RunInfo, stem_of
from engine.runs.seed_groups import is_search
from presets.config_layers import override_layers
from presets.errors import CifartuiError
from presets.problems import printable
from tui import format as fmt

_SHORT = {
    "batch_size": "batch", "image_size": "size", "epochs_scale": "epochs ×", "weight_decay": "decay",
    "label_smoothing": "smoothing", "train_limit": "limit", "path": "data",
}  # fmt: skip
"""Other words for the end of a key's path."""
_CHOOSERS = {("optimizer", "name"), ("schedule", "name"), ("model", "network"), ("data", "dataset")}
"""Keys whose value says enough by itself."""
_DATA = ("data", "path")
_CLASS_WEIGHTS = ("loss", "class_weights")
"""A table whose keys are names of classes, which say nothing without its own."""
_DIGITS = 4
_LEAST_STEM = 5
_MOST_VALUE = 40

Words: TypeAlias = tuple[str, ...]
"""Settings of a run, such as ("lr 0.01", "seed 3")."""


def words_of(overrides: Sequence[str], seed: int = 0, group: str = "") -> Words:
    """Return the settings of a run that are not its preset's; the seed if it is not 0, or one of several."""
    words = _words(tuple(overrides)) if overrides else ()
    return (*words, f"seed {seed}") if seed or (group and not is_search(group)) else words


@lru_cache(maxsize=1 << 14)
def _words(overrides: tuple[str, ...]) -> Words:
    leaves: dict[tuple[str, ...], Any] = {}
    for override in overrides:
        try:
            (layer,) = override_layers((override,))
            found = dict(_leaves((), layer.table))
            earlier = leaves.get(_CLASS_WEIGHTS)
            if isinstance(earlier, Mapping) and isinstance(weights := found.get(_CLASS_WEIGHTS), Mapping):
                found[_CLASS_WEIGHTS] = {**earlier, **weights}
            leaves.update(found)
        except CifartuiError:  # of a file that somebody wrote
            leaves[(override,)] = None
    if _DATA in leaves:
        leaves.pop(("data", "dataset"), None)
    names = {path: _SHORT.get(path[-1], path[-1]) for path in leaves}
    taken = list(names.values())
    longer = {path: ".".join(path[-2:]) for path, name in names.items() if taken.count(name) > 1}
    return tuple(printable(_word(path, {**names, **longer}[path], value)) for path, value in leaves.items())


def _leaves(above: tuple[str, ...], value: Any) -> Iterable[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and value and above != _CLASS_WEIGHTS:
        for key, part in value.items():
            yield from _leaves((*above, key), part)
    else:
        yield above, value


def _word(path: tuple[str, ...], name: str, value: Any) -> str:
    if value is None:
        return name
    if path == _DATA:
        return f"{name} {PurePath(str(value)).name or value}"
    text = _text(value)
    if path in _CHOOSERS:
        return text
    return f"{name}{'' if name.endswith('×') else ' '}{text}"


def _text(value: Any) -> str:
    """Return a value of TOML; of a list of transforms their names, of a table its keys and values."""
    if isinstance(value, Mapping) and value:
        return fmt.cut(" ".join(f"{key} {_text(part)}" for key, part in value.items()), _MOST_VALUE)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list) and value and all(isinstance(each, Mapping) and "op" in each for each in value):
        return "+".join(str(each["op"]) for each in value)
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return fmt.cut(text, _MOST_VALUE)


def shared_words(named: Iterable[tuple[str, Words]]) -> dict[str, frozenset[str]]:
    """Return, by preset, the settings that all of its runs have, unless they differ in nothing.

    Args:
        named: preset and settings of every run.
    """
    sets: dict[str, set[Words]] = {}
    for preset_name, words in named:
        sets.setdefault(preset_name, set()).add(words)
    several = {preset_name: found for preset_name, found in sets.items() if len(found) > 1}
    return {name: frozenset.intersection(*map(frozenset, found)) for name, found in several.items()}


@lru_cache(maxsize=1 << 14)
def run_name(
    run_id: str, preset_name: str, words: Words, width: int | None = None, shared: frozenset[str] = frozenset()
) -> str:
    """Return a run's name in at most `width` columns, such as "networks-resnet18-ab12 lr 0.01".

    What there is no room for goes in this order: the random digits, what all runs of the preset share, the beginning
    of the preset's name, the end of the settings.

    Args:
        run_id: with its time, which is left out.
        preset_name: as the run records it.
        words: its settings, from `words_of`.
        width: columns; None if there is room for everything.
        shared: from `shared_words`, of its preset.
    """
    whole = printable(fmt.short_id(run_id))
    stem = whole
    if len(whole) == len(stem_of(preset_name)) + 1 + _DIGITS and whole.startswith(f"{stem_of(preset_name)}-"):
        stem = whole[: -1 - _DIGITS]
    return named(whole, stem, words, width, shared)


def words_of_run(info: RunInfo) -> Words:
    """Return the settings of a run that are not its preset's, as `words_of` does."""
    return words_of(info.overrides, info.seed, info.group)


def name_of(info: RunInfo, width: int | None = None) -> str:
    """Return `run_name` of a run by its run.json."""
    return run_name(info.id, info.preset_name, words_of_run(info), width)


def title_of(info: RunInfo) -> str:
    """Return the title of a run's preset with its settings behind it, such as "ResNet-18 lr 0.01"."""
    return " ".join((info.preset.title, *words_of_run(info)))


def settings(words: Words, width: int, shared: frozenset[str]) -> str:
    """Return settings for a column of `width`; where there is no room, those that are shared go behind the others."""
    text = " ".join(words)
    if cell_len(text) > width:
        text = " ".join((*(word for word in words if word not in shared), *(word for word in words if word in shared)))
    return fmt.cut(text, width)


def named(whole: str, stem: str, words: Words, width: int | None, shared: frozenset[str] = frozenset()) -> str:
    """Return `whole` or, if there is no room, `stem` with settings behind it; see `run_name`."""
    full = " ".join((whole, *words))
    if width is None or cell_len(full) <= width:
        return full
    own = [word for word in words if word not in shared]
    if not own:
        return fmt.cut(whole, width, keep_end=True)
    for kept in (words, own):
        if cell_len(text := " ".join((stem, *kept))) <= width:
            return text
    settings = " ".join(own)
    room = max(min(_LEAST_STEM, cell_len(stem)), width - 1 - cell_len(settings))
    return fmt.cut(f"{fmt.cut(stem, room, keep_end=True)} {settings}", width)
