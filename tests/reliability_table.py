"""Rows of the tables in docs/reliability.md, and the tests that they name."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def rows(section: str) -> list[list[str]]:
    text = (TESTS.parent / "docs/reliability.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def check_rows(section: str, num_cells: int) -> None:
    for row in rows(section):
        assert len(row) == num_cells, row
        assert all(row), row
        assert re.findall(r"`(test_\w+)`", row[-1]), row


def named_in(section: str) -> set[str]:
    return {name for row in rows(section) for name in re.findall(r"`(test_\w+)`", row[-1])}


def names_of(file: Path) -> set[str]:
    return set(_TEST.findall(file.read_text()))
