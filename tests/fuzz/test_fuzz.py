"""Input that is wrong in ways nobody thought of is taken or refused in a sentence: a share of `make fuzz`."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runs import named_runs
from engine.runs.find_run import find_run
from presets import catalog
from presets.errors import CifartuiError
from tests.fuzz.kinds import KINDS, refused
from tests.fuzz.work import run

CASES = int(os.environ.get("CIFARTUI_FUZZ_CASES", "400"))


@pytest.mark.parametrize("kind", KINDS)
def test_taken_or_refused_in_a_sentence(kind: str) -> None:
    counts = run(kind, range(CASES))
    assert counts.num_taken, "nothing is looked at where everything is refused"
    assert counts.num_refused, "the faults are none"


@settings(max_examples=200)
@given(st.lists(st.text(st.characters(codec=None), max_size=40), max_size=3))
def test_any_text_behind_set(overrides: list[str]) -> None:
    try:
        catalog.load("demo", overrides)
    except CifartuiError as error:
        refused(error)


@settings(max_examples=200)
@given(st.text(st.characters(codec=None), max_size=300))
def test_any_text_as_the_name_of_a_run_or_preset(name: str) -> None:
    for ask in (
        lambda: find_run(Path("/nonexistent"), name),
        lambda: named_runs.check_name(name),
        lambda: catalog.load(name),
    ):
        try:
            ask()
        except CifartuiError as error:
            refused(error)
