"""A staged run in a real worker: moved on from outside, killed and resumed in its second stage."""

import os
import signal
from pathlib import Path

import pytest

from engine.journal import commands
from engine.journal.events import RunFinished, StageStarted
from engine.journal.jsonl import append_command, read_events
from engine.runs import run_dir, start
from engine.runs.run_dir import RunDir
from presets import catalog
from tests.waiting import wait_for

PLAN = """
extends = "demo"
[train]
batch_size = 32
[[stages]]
name = "flip"
epochs = 1000
augment = [{ op = "horizontal-flip" }]
[[stages]]
name = "plain"
epochs = 3
start_from = "best"
"""


def started(run: RunDir) -> list[str]:
    return [event.name for event in read_events(run.events) if isinstance(event, StageStarted)]


def ended(run: RunDir) -> RunFinished | None:
    return None if run.worker_lives() else run.read_state().finished


@pytest.mark.usefixtures("forked")
def test_next_stage_a_kill_and_a_resume(runs_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    preset = catalog.load(str(path), ["data.train_limit=1280"])
    run = run_dir.create(runs_dir, "plan", preset=preset, overrides=(), seed=0, device="cpu")
    start.start_worker(run)
    wait_for(lambda: run.read_state().epochs, "the first epoch")
    wish = commands.NextStage()
    append_command(run.commands, wish)
    wait_for(lambda: "plain" in started(run), "the second stage")
    assert run.read_state().commands[wish.id].accepted

    mark = run.read_mark()
    assert mark is not None
    os.kill(mark.pid, signal.SIGKILL)
    wait_for(lambda: run.worker_lives() is False, "the worker's end")
    start.start_worker(run, resume=True)
    end = wait_for(lambda: ended(run), "the end of the run")
    assert end.outcome == "completed", end.reason
    state = run.read_state()
    assert [stage.name for stage in state.stages] == ["flip", "plain"]
    assert [point.stage for point in state.epochs][-3:] == [1, 1, 1]
    assert state.epochs[-1].number == state.total_epochs == end.epoch
