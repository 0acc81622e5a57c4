"""The table on other hosts in docs/reliability.md names tests that are there."""

from tests.reliability_table import TESTS, check_rows, named_in, names_of, rows

SECTION = "Another host"


def test_every_row_says_what_is_tried_what_comes_of_it_and_who_tests_it() -> None:
    assert rows(SECTION)
    check_rows(SECTION, 3)
    there = set().union(*(names_of(path) for path in TESTS.glob("*/test_*.py")))
    assert named_in(SECTION) - there == set()
