"""In what runs differ: the fields of their presets, seed, device and versions that are not the same in all.

Knows what runs were asked for and how their workers began; no files and no widgets.
"""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from engine.journal.events import RunStarted
from engine.runs.run_dir import RunInfo
from tui import format as fmt
from tui.terminal.streams import one_line

_NOT_TRAINED = {"title", "summary", "group", "report"}
"""Fields of a preset that say something about it and change nothing in training."""
_TRANSFORMS = {"augment", "evaluate"}
_BESIDES = ("changed on resume", "seed", "device", "precision")
"""What is not of the preset, and comes behind it; so do versions."""


class Side(Struct, frozen=True):
    """A run to be compared; `started` is None where no worker has begun."""

    info: RunInfo
    started: RunStarted | None


class Difference(Struct, frozen=True):
    """A field and what it is in every run, in their order; None where a run has no such field."""

    field: str
    values: tuple[str | None, ...]


def differences(sides: Sequence[Side]) -> list[Difference]:
    """Return the fields in which the runs are not all the same, in the order of a preset; seed and machine last."""
    tables = [dict(_fields(side)) for side in sides]
    names = list(dict.fromkeys(name for difference_table in tables for name in difference_table))
    found = [
        Difference(name, tuple(difference_table.get(name) for difference_table in tables))
        for name in sorted(names, key=_rank)
    ]
    return [difference for difference in found if len(set(difference.values)) > 1]


def sentence(found: Sequence[Difference], num_runs: int) -> str:
    """Return in one sentence in how much `num_runs` runs differ."""
    if num_runs < 2:
        return "There is only one run here: nothing to compare it with."
    these, names = f"These {num_runs} runs", [difference.field for difference in found]
    if not names:
        return f"{these} differ in nothing that is recorded: preset, seed, device and versions are the same."
    if set(names) <= set(_BESIDES):
        *others, last = names
        return f"{these} differ in nothing but {' and '.join([', '.join(others), last] if others else [last])}."
    return f"{these} differ in {fmt.plural(len(names), 'field')}; equal ones are left out."


def difference_table(found: Sequence[Difference], headings: Sequence[str], most: int = 40) -> list[str]:
    """Return the differences as aligned lines, a column a run; values longer than `most` characters are wrapped."""
    rows = [("", *headings)] + [(each.field, *(value or "–" for value in each.values)) for each in found]
    cells = [[wrap(one_line(text), most) or [""] for text in row] for row in rows]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(headings) + 1)]
    lines = []
    for row in cells:
        for number in range(max(map(len, row))):
            parts = [
                f"{cell[number] if number < len(cell) else '':<{width}}"
                for cell, width in zip(row, widths, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
    return lines


def _rank(name: str) -> int:
    """Return where a field's group stands: the preset's own first, versions last; within one, order is kept."""
    if name in _BESIDES:
        return 1 + _BESIDES.index(name)
    return 1 + len(_BESIDES) if name.startswith("versions.") else 0


def _fields(side: Side) -> Iterator[tuple[str, str]]:
    info, started = side.info, side.started
    yield "preset", info.preset_name
    for name in info.preset.__struct_fields__:
        if name not in _NOT_TRAINED:
            yield from _flat(name, getattr(info.preset, name))
    if started is not None and started.changes:
        yield "changed on resume", " ".join(started.changes)
    yield "seed", str(info.seed)
    if started is None:
        yield "device", info.device
        return
    yield "device", started.device if started.device_name in {"", started.device} else started.device_name
    yield "precision", started.precision
    for name, version in started.versions.items():
        yield f"versions.{name}", version


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields below `value` under dotted names, as they would be written in a preset."""
    if isinstance(value, Struct):
        config = value.__struct_config__
        if config.tag_field is not None:
            yield f"{name}.{config.tag_field}", str(config.tag)
        for field in value.__struct_fields__:
            if getattr(value, field) is not None:
                yield from _flat(f"{name}.{field}", getattr(value, field))
    elif isinstance(value, tuple) and name.rpartition(".")[2] in _TRANSFORMS:
        yield name, ", ".join(_transform(step) for step in value) or "none"
    elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
        for number, part in enumerate(value, start=1):
            yield from _flat(f"{name}[{number}]", part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, _text(value)


def _transform(step: Struct) -> str:
    """Return an augmentation as "random-crop padding 4": its name, and every value that is not the usual one."""
    usual = {field.name: field.default for field in fields(step)}
    values = [f" {name} {_text(getattr(step, name))}" for name in usual if getattr(step, name) != usual[name]]
    return f"{step.__struct_config__.tag}{''.join(values)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
