"""Disks that refuse one step of the making of a run, or of a queue's entry, whichever step it is."""

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.queue import queue_file
from engine.runs.run_dir import list_runs
from engine.runs.run_options import RunOptions
from engine.runs.start import start_range_test, start_run
from engine.shared import child_process
from presets.errors import CifartuiError
from tests.faults.test_fault_disks import room

CPU = RunOptions(device="cpu")
WAYS: dict[str, Callable[[Path], object]] = {
    "train": lambda runs_dir: start_run(runs_dir, "demo", CPU),
    "named": lambda runs_dir: start_run(runs_dir, "demo", CPU, run_name="mine"),
    "prepare": lambda runs_dir: start_run(runs_dir, "demo", CPU, start=False),
    "lr-find": lambda runs_dir: start_range_test(runs_dir, "demo", CPU),
    "queue": lambda runs_dir: queue_file.add(runs_dir, ["demo", "basenet"], RunOptions(device="cpu", seeds=(0, 1))),
}
OTHERS = (errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMLINK, errno.ENAMETOOLONG, errno.ENOMEM)
_STEPS = ("open", "mkdir", "chmod", "fchmod", "fsync", "replace", "rename", "posix_fallocate", "start")


class Disk:
    """Makes the step number `number` below a folder fail; the start of a process is a step, and starts nothing."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = str(folder)
        self.code, self.left, self.failed_at = 0, 0, ""
        for name in _STEPS[:-1]:
            monkeypatch.setattr(os, name, self._refusing(name, getattr(os, name)))
        process = SimpleNamespace(pid=os.getpid())
        monkeypatch.setattr(child_process, "start", self._refusing("start", lambda *_arguments, **_options: process))

    def fail(self, number: int, code: int) -> None:
        self.left, self.code, self.failed_at = number, code, ""

    def _refusing(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            is_write = name != "open" or arguments[1] & os.O_CREAT
            if is_write and (name == "start" or self._path(arguments[0]).startswith(self._folder)):
                self.left -= 1
                if self.left == 0:
                    self.failed_at = name
                    raise OSError(self.code, os.strerror(self.code))
            return step(*arguments, **options)

        return call

    @staticmethod
    def _path(named: Any) -> str:
        return str(Path(f"/proc/self/fd/{named}").readlink()) if isinstance(named, int) else os.fsdecode(named)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def left_in(runs_dir: Path) -> list[str]:
    """Return what lies in a runs folder besides the files of its queue."""
    return [path.name for path in runs_dir.iterdir() if not path.name.startswith("queue")] if runs_dir.exists() else []


@pytest.mark.parametrize(
    ("way", "code"),
    [*((way, errno.ENOSPC) for way in WAYS), *(("train", code) for code in OTHERS), ("queue", errno.EIO)],
)
def test_whatever_step_a_disk_refuses_a_run_is_made_whole_or_not_at_all(
    tmp_path: Path, disk: Disk, way: str, code: int
) -> None:
    refused = 0
    for number in count(1):
        above = tmp_path / f"{number}"
        runs_dir = above / "runs"
        disk.fail(number, code)
        said = ""
        try:
            WAYS[way](runs_dir)
        except CifartuiError as error:
            said = str(error)
        is_kept = said.startswith("It is in the queue, and its runner cannot be started (")
        if said:
            refused += 1
            assert os.strerror(code) in said, disk.failed_at
            assert "None" not in said
            assert left_in(runs_dir) == [], disk.failed_at
            assert way == "queue" or not above.exists(), disk.failed_at
        else:
            assert len(list_runs(runs_dir)) == (way != "queue")
        if way == "queue":
            assert len(queue_file.entries(runs_dir)) == (4 if is_kept or not said else 0), said
        if not disk.failed_at:
            break
    assert refused >= 5


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_with_room_for_some_bytes_only_keeps_no_half_of_a_run(tmp_path: Path, disk: Disk, way: str) -> None:
    for num_bytes in (0, 1, 100):
        with (
            room(num_bytes),
            pytest.raises(CifartuiError, match=r"File too large|No space left on device|is in the queue"),
        ):
            WAYS[way](tmp_path / "runs")
        assert left_in(tmp_path / "runs") == []
