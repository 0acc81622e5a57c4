"""Tables of words for the values of a type: each value has its entry, and there is no other."""

from collections.abc import Collection
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from engine.runs.events import DataProgressed
from engine.runs.folder import Status
from engine.runs.state import FINISHED
from presets import layers, schema
from tui import summary, words
from tui.widgets import describe


def values(table: type, field: str) -> tuple[Any, ...]:
    return get_args(get_type_hints(table)[field])


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (words._TONES, get_args(Status)),
        ([*summary._AT_WORK, *FINISHED, "stalled", "lost"], get_args(Status)),
        (words._PHASES, values(DataProgressed, "phase")),
        (describe._DATASETS, values(schema.Data, "dataset")),
        (describe._NORMALIZE, values(schema.Data, "normalize")),
        (describe._STEMS, values(schema.FreezableModel, "stem")),
        (describe._STEMS, values(schema.ResnetV2, "stem")),
    ],
)
def test_every_value_has_its_entry(entries: Collection[str], wanted: tuple[str, ...]) -> None:
    assert sorted(entries) == sorted(wanted)


@pytest.mark.parametrize("status", get_args(Status))
def test_a_worker_obeys_in_every_status_but_those_without_one(status: Status) -> None:
    assert words.is_live(status) == (status not in {*FINISHED, "lost"})


def test_the_choosing_keys_are_those_of_the_schema() -> None:
    found: dict[str, set[str]] = {}
    for name, hint in get_type_hints(schema.Preset).items():
        for kind in get_args(hint):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag_field:
                found.setdefault(name, set()).add(kind.__struct_config__.tag_field)
    assert {name: {field} for name, field in layers._CHOOSERS.items()} == found
