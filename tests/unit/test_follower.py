"""Following a run on a disk that is away for a while."""

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from engine.journal import fold_file
from engine.journal.jsonl import LineReader
from engine.journal.state import fold
from tests.ui.sample_run import training
from tui.data import follower
from tui.data.follower import RunOpened, RunProgressed, RunUnreadable, follow_run


def gone() -> OSError:
    return OSError(errno.ESTALE, "Stale file handle")


def test_a_disk_that_is_away_costs_a_round_and_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[Message] = []
    stop = threading.Event()
    read, num_rounds = LineReader.batches, 0

    def batches(reader: LineReader[Any]) -> Iterator[list[Any]]:
        nonlocal num_rounds
        num_rounds += 1
        if num_rounds == 2:
            run.train_epoch(3)
            yield from read(reader)
        if num_rounds in {2, 3}:  # once after some events were read, once at once
            raise gone()
        if num_rounds == 4:
            run.train_epoch(4)
            stop.set()
        yield from read(reader)

    monkeypatch.setattr(follower, "POLL_S", 0.01)
    with training(tmp_path, epochs_done=2) as run:
        monkeypatch.setattr(LineReader, "batches", batches)
        follow_run(run.folder, posted.append, stop)
        monkeypatch.undo()
        written = run.folder.read_state()
    opened = posted[0]
    assert isinstance(opened, RunOpened)
    for message in posted[1:]:
        assert isinstance(message, RunProgressed)
        fold(message.events, opened.state)
    assert opened.state.epochs == written.epochs
    assert len(written.epochs) >= 4


def test_a_history_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: object) -> None:
        raise gone()

    posted: list[Message] = []
    monkeypatch.setattr(fold_file, "read_folded", fail)
    with training(tmp_path, epochs_done=1) as run:
        follow_run(run.folder, posted.append, threading.Event())
    (told,) = posted
    assert isinstance(told, RunUnreadable)
    assert "Stale file handle" in told.problem


def test_the_helper_is_waited_for_whatever_is_there_to_read(tmp_path: Path) -> None:
    waited: list[bool] = []
    with training(tmp_path, epochs_done=1) as run:
        (run.folder.path / "run.json").unlink()
        follow_run(run.folder, lambda message: None, threading.Event(), lambda: waited.append(True))
    assert waited
