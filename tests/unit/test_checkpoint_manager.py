"""Checkpoints behind the loop's back: what is written, in which order, and where a failure comes out."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.journal.events import CheckpointSaved
from engine.journal.jsonl import EventWriter, read_events
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.checkpoint_manager import Best, Checkpoints
from engine.training.progress import Progress
from presets.errors import CifartuiError
from tests.waiting import wait_for

PATIENCE_S = 20.0


class Disk:
    """Stands in for checkpoint.save: writes for real, but only what it is let, and tells what has begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.free = threading.Semaphore(0)
        self.save = checkpoint_files.save
        self.error: OSError | None = None

    def __call__(self, content: dict[str, Any], path: Path, **options: Any) -> int:
        self.begun.append(path.stem)
        assert self.free.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self.save(content, path, **options)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    slow = Disk()
    monkeypatch.setattr(checkpoint_files, "save", slow)
    return slow


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    (tmp_path / "checkpoints").mkdir()
    return RunDir(tmp_path)


@pytest.fixture
def checkpoints(folder: RunDir) -> Checkpoints:
    return Checkpoints(folder, EventWriter(folder.events), ("a", "b"), torch.device("cpu"))


@pytest.fixture
def save(checkpoints: Checkpoints) -> Callable[..., None]:
    """Save weights that are all `value`, as after epoch `value`."""

    def save_value(value: int, *best: Best) -> None:
        state = {"network": {"w": torch.full((2,), float(value))}, "schedule": {"rates": [value]}}
        checkpoints.save(state, Progress(epoch=value + 1, global_step=value, best_val_top1=0.1), best)

    return save_value


def saved(folder: RunDir) -> list[tuple[str, int]]:
    events = [event for event in read_events(folder.events) if isinstance(event, CheckpointSaved)]
    assert all((folder.path / event.path).stat().st_size > 0 for event in events)
    return [(event.kind, event.global_step) for event in events]


def value_in(folder: RunDir, name: str) -> float:
    return float(checkpoint_files.load(folder.checkpoints / f"{name}.pt")["network"]["w"][0])


def test_training_goes_on_and_what_it_does_is_not_in_the_checkpoint(
    folder: RunDir, checkpoints: Checkpoints, disk: Disk
) -> None:
    weights, rates = torch.ones(2), [0.1]
    with checkpoints:
        checkpoints.save({"network": {"w": weights}, "schedule": {"rates": rates}}, Progress())
        weights.fill_(2.0)
        rates[0] = 0.2
        assert saved(folder) == []  # not before it is there
        disk.free.release()
    assert saved(folder) == [("last", 0)]
    content = checkpoint_files.load(folder.last)
    assert torch.equal(content["network"]["w"], torch.ones(2))
    assert content["schedule"] == {"rates": [0.1]}


def test_a_newer_one_takes_the_place_of_what_waits(
    folder: RunDir, checkpoints: Checkpoints, disk: Disk, save: Callable[..., None]
) -> None:
    with checkpoints:
        save(1)
        wait_for(lambda: disk.begun, "the first write")
        save(2)
        save(3)
        disk.free.release(9)
    assert saved(folder) == [("last", 1), ("last", 3)]
    assert (value_in(folder, "last.prev"), value_in(folder, "last")) == (1, 3)


def test_best_weights_that_wait_are_written_before_a_later_last(
    folder: RunDir, checkpoints: Checkpoints, disk: Disk, save: Callable[..., None]
) -> None:
    with checkpoints:
        save(1)
        wait_for(lambda: disk.begun, "the first write")
        save(2, "best", "stage-best")
        save(3, "stage-best")
        save(4)
        disk.free.release(9)
    assert saved(folder) == [("last", 1), ("best", 2), ("stage-best", 3), ("last", 4)]
    assert [value_in(folder, name) for name in ("best", "stage-best", "last")] == [2, 3, 4]
    best = checkpoint_files.load(folder.best)
    assert (best["epoch"], best["val_top1"], best["class_names"]) == (2, 0.1, ["a", "b"])


def test_a_full_disk_comes_out_as_a_sentence_and_nothing_follows_it(
    folder: RunDir, checkpoints: Checkpoints, disk: Disk, save: Callable[..., None]
) -> None:
    save(1, "best")
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    disk.free.release()
    with pytest.raises(CifartuiError, match=rf"No space left on device.*cifartui resume {folder.id}"):
        checkpoints.drain()
    with pytest.raises(CifartuiError, match="No space left"):
        checkpoints.last_is_due()
    with pytest.raises(CifartuiError, match="No space left"):
        save(2)
    assert disk.begun == ["best"]  # a last.pt without the best weights that it counts on would be worse than none
    assert saved(folder) == []


def test_a_failure_at_the_very_end_is_not_lost(checkpoints: Checkpoints, disk: Disk, save: Callable[..., None]) -> None:
    disk.error = OSError(errno.EDQUOT, "Disk quota exceeded")
    disk.free.release()
    save(1)
    with pytest.raises(CifartuiError, match="Disk quota exceeded"), checkpoints:
        pass


def test_what_was_handed_over_is_written_though_the_loop_fails(
    folder: RunDir, checkpoints: Checkpoints, disk: Disk, save: Callable[..., None]
) -> None:
    disk.free.release(9)
    save(1, "best")
    with pytest.raises(KeyError), checkpoints:
        raise KeyError
    assert saved(folder) == [("best", 1), ("last", 1)]


def test_the_best_weights_are_waited_for(checkpoints: Checkpoints, disk: Disk, save: Callable[..., None]) -> None:
    network = nn.Module()
    network.w = nn.Parameter(torch.zeros(2))
    with checkpoints:
        save(1, "best")
        threading.Timer(0.05, disk.free.release, (9,)).start()
        assert checkpoints.load_best("best", network, "")
    assert network.w.tolist() == [1.0, 1.0]


def test_a_checkpoint_between_two_epochs_is_told_as_of_the_first(
    folder: RunDir, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    with checkpoints:
        save(3, "best")
    told = [event for event in read_events(folder.events) if isinstance(event, CheckpointSaved)]
    assert [(event.kind, event.epoch) for event in told] == [("best", 3), ("last", 3)]
