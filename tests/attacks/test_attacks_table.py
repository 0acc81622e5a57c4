"""The table of attacks in docs/reliability.md names tests that are there, and every attack here is in the table."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs/reliability.md"
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def rows() -> list[list[str]]:
    section = DOCS.read_text().partition("\n## Another user of the same machine\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_every_row_says_what_is_tried_what_comes_of_it_and_who_tests_it() -> None:
    assert rows()
    for row in rows():
        assert len(row) == 3, row
        assert all(row), row
        assert re.findall(r"`(test_\w+)`", row[-1]), row


def test_every_test_named_is_there_and_every_file_of_attacks_is_named() -> None:
    named = {name for row in rows() for name in re.findall(r"`(test_\w+)`", row[-1])}
    here = {path: set(_TEST.findall(path.read_text())) for path in Path(__file__).parent.glob("test_*.py")}
    assert named - set().union(*here.values()) == set()
    assert [path.name for path, tests in here.items() if path != Path(__file__) and not tests & named] == []
