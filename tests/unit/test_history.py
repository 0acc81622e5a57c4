"""A helper reads a long history as this process would."""

import os
from pathlib import Path

import pytest

from engine.runs.events import StepsTrained
from tests.ui.sample_run import SampleRun, training
from tui import history


def test_a_short_history_needs_no_helper(tmp_path: Path) -> None:
    with training(tmp_path, epochs_done=1) as run:
        assert history.read_ahead(run.folder) is None
    with SampleRun(tmp_path, "empty-0000") as run:
        run.folder.events.unlink()
        assert history.read_ahead(run.folder) is None


def test_a_helper_finds_what_reading_here_finds_and_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_WORTH_A_HELPER_BYTES", 1)
    with training(tmp_path, gpu=True, epochs_done=3) as run:
        wait = history.read_ahead(run.folder)
        assert wait is not None
        found = wait()
        assert found is not None
        here, _ = history.read(run.folder)
        assert found[0] == here
        state, reader = history.go_on_from(run.folder, found)
        assert state.epoch == 4
        assert reader.read() == []
        run.train_epoch(4)
        assert any(isinstance(event, StepsTrained) for event in reader.read())


def test_a_helper_that_fails_leaves_the_reading_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_WORTH_A_HELPER_BYTES", 1)
    monkeypatch.setattr(history, "read", lambda run: os._exit(3))
    with training(tmp_path, epochs_done=1) as run:
        wait = history.read_ahead(run.folder)
        assert wait is not None
        assert wait() is None
