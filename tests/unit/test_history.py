"""A helper reads a long history as this process would."""

import os
import signal
from pathlib import Path

import pytest

from engine.journal import fold_file
from engine.journal.events import StepsTrained
from tests.ui.sample_run import SampleRun, training
from tests.waiting import wait_for
from tui.data import follower


def test_a_short_history_needs_no_helper(tmp_path: Path) -> None:
    with training(tmp_path, epochs_done=1) as run:
        assert follower.read_ahead(run.folder) is None
    with SampleRun(tmp_path, "empty-0000") as run:
        run.folder.events.unlink()
        assert follower.read_ahead(run.folder) is None


def test_a_helper_finds_what_reading_here_finds_and_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_WORTH_A_HELPER_BYTES", 1)
    with training(tmp_path, gpu=True, epochs_done=3) as run:
        wait = follower.read_ahead(run.folder)
        assert wait is not None
        found = wait()
        assert found is not None
        here, _ = fold_file.read_folded(run.folder.events)
        assert found[0] == here
        state, reader = follower.go_on_from(run.folder, found)
        assert state.epoch == 4
        assert reader.read() == []
        run.train_epoch(4)
        assert any(isinstance(event, StepsTrained) for event in reader.read())


def test_a_helper_that_fails_leaves_the_reading_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_WORTH_A_HELPER_BYTES", 1)
    monkeypatch.setattr(fold_file, "read_folded", lambda journal: os._exit(3))
    with training(tmp_path, epochs_done=1) as run:
        wait = follower.read_ahead(run.folder)
        assert wait is not None
        assert wait() is None


def test_a_helper_ends_where_nobody_reads_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make_pipe, fork = os.pipe, os.fork

    def pipe() -> tuple[int, int]:
        readable, writable = make_pipe()
        made.append(readable)
        return readable, writable

    def forked() -> int:
        made.append(fork())
        return made[-1]

    class Journal:
        offset = 0

    monkeypatch.setattr(follower, "_WORTH_A_HELPER_BYTES", 1)
    monkeypatch.setattr(follower.os, "pipe", pipe)
    monkeypatch.setattr(follower.os, "fork", forked)
    monkeypatch.setattr(
        fold_file, "read_folded", lambda journal: (bytes(10_000_000), Journal())
    )  # more than a pipe holds
    with training(tmp_path, epochs_done=1) as run:
        assert follower.read_ahead(run.folder) is not None
    readable, helper = made
    os.close(readable)
    try:
        wait_for(lambda: os.waitpid(helper, os.WNOHANG)[0], "the end of the helper", patience_s=10)
    except AssertionError:
        os.kill(helper, signal.SIGKILL)
        raise
