"""Real workers and their folders, as in the integration tests, and files of another user."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import files
from tests.integration.conftest import cifartui, demo, runs_dir  # noqa: F401

ANOTHER = 4711
"""A user who is neither root nor anybody here."""


@pytest.fixture
def disown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Give a file to another user. Who is not root cannot, so its status then says so in this process alone."""
    given: set[tuple[int, int]] = set()
    check = files.check_ours

    def pretend(about: os.stat_result, path: Path) -> None:
        if (about.st_dev, about.st_ino) in given:
            fields = list(about)[:10]
            fields[4] = ANOTHER
            about = os.stat_result(fields)
        check(about, path)

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, ANOTHER, -1, follow_symlinks=False)
        else:
            about = path.lstat()
            given.add((about.st_dev, about.st_ino))

    monkeypatch.setattr(files, "check_ours", pretend)
    return give
