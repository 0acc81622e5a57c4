"""Tables of words for the values of a type: each value has its entry, and there is no other."""

from collections.abc import Collection
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from engine.journal.events import DataProgressed
from engine.journal.state import FINISHED
from engine.runs.run_dir import Status
from presets import config_layers, schema
from tui.data import summary
from tui.text import preset_text, run_text


def values(table: type, field: str) -> tuple[Any, ...]:
    return get_args(get_type_hints(table)[field])


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (run_text._TONES, get_args(Status)),
        ([*summary._AT_WORK, *FINISHED, "stalled", "lost"], get_args(Status)),
        (run_text._PHASES, values(DataProgressed, "phase")),
        (preset_text._DATASETS, values(schema.Data, "dataset")),
        (preset_text._NORMALIZE, values(schema.Data, "normalize")),
        (preset_text._STEMS, values(schema.Resnet18, "stem")),
        (preset_text._STEMS, values(schema.ResnetV2, "stem")),
    ],
)
def test_every_value_has_its_entry(entries: Collection[str], wanted: tuple[str, ...]) -> None:
    assert sorted(entries) == sorted(wanted)


@pytest.mark.parametrize("status", get_args(Status))
def test_a_worker_obeys_in_every_status_but_those_without_one(status: Status) -> None:
    assert run_text.is_live(status) == (status not in {*FINISHED, "lost"})


def test_the_choosing_keys_are_those_of_the_schema() -> None:
    found: dict[str, set[str]] = {}
    for name, hint in get_type_hints(schema.Preset).items():
        for kind in get_args(hint):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag_field:
                found.setdefault(name, set()).add(kind.__struct_config__.tag_field)
    assert {name: {field} for name, field in config_layers._CHOOSERS.items()} == found
