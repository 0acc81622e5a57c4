"""The table of attacks in docs/reliability.md names tests that are there, and every attack here is in the table."""

from pathlib import Path

from tests.reliability_table import check_rows, named_in, names_of, rows

SECTION = "Another user of the same machine"


def test_every_row_says_what_is_tried_what_comes_of_it_and_who_tests_it() -> None:
    assert rows(SECTION)
    check_rows(SECTION, 3)


def test_every_test_named_is_there_and_every_file_of_attacks_is_named() -> None:
    named = named_in(SECTION)
    here = {path: names_of(path) for path in Path(__file__).parent.glob("test_*.py")}
    assert named - set().union(*here.values()) == set()
    assert [path.name for path, tests in here.items() if path != Path(__file__) and not tests & named] == []
