"""The table of faults in docs/reliability.md names tests that are there, and all that are here."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs/reliability.md"
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def rows() -> list[list[str]]:
    section = DOCS.read_text().partition("\n## Faults\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def _names_in(folder: Path) -> set[str]:
    return {name for file in folder.rglob("test_*.py") for name in _TEST.findall(file.read_text())}


def test_every_row_says_what_happens_what_is_seen_what_is_lost_and_who_tests_it() -> None:
    assert len(rows()) > 20
    for row in rows():
        assert len(row) == 5, row
        assert all(row), row
        assert re.findall(r"`(test_\w+)`", row[-1]), row


def test_every_test_named_is_there_and_every_test_here_is_named() -> None:
    named = {name for row in rows() for name in re.findall(r"`(test_\w+)`", row[-1])}
    own = set(_TEST.findall(Path(__file__).read_text()))
    assert named - _names_in(TESTS) == set()
    assert _names_in(TESTS / "faults") - own - named == set()
