"""The table of faults in docs/reliability.md names tests that are there, and all that are here."""

from pathlib import Path

from tests.reliability_table import TESTS, check_rows, named_in, names_of, rows

SECTION = "Faults"
OF_THE_TERMINAL = "The terminal"


def _names_in(folder: Path) -> set[str]:
    return {name for file in folder.rglob("test_*.py") for name in names_of(file)}


def test_every_row_says_what_happens_what_is_seen_what_is_lost_and_who_tests_it() -> None:
    assert len(rows(SECTION)) > 20
    check_rows(SECTION, 5)


def test_every_test_named_is_there_and_every_test_here_is_named() -> None:
    named = named_in(SECTION)
    assert named - _names_in(TESTS) == set()
    assert _names_in(TESTS / "faults") - names_of(Path(__file__)) - named == set()


def test_every_row_of_the_terminal_names_tests_that_are_there() -> None:
    assert len(rows(OF_THE_TERMINAL)) > 10
    check_rows(OF_THE_TERMINAL, 3)
    assert named_in(OF_THE_TERMINAL) - _names_in(TESTS) == set()
    assert names_of(TESTS / "integration/test_terminal_words.py") - named_in(OF_THE_TERMINAL) == set()
