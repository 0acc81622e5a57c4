"""A run steered from outside and trained on afterwards: rate, validation, stop, resume with one more epoch."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from engine.journal.events import RunStarted
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir
from tests.waiting import wait_for

Start = Callable[..., RunDir]
Call = Callable[..., subprocess.CompletedProcess[str]]


def test_a_run_is_scaled_validated_saved_stopped_and_trained_on(start: Start, cifartui: Call, runs_dir: Path) -> None:
    run = start("train.epochs=500", "schedule.name=constant")
    wait_for(lambda: run.read_state().steps, "training")
    assert "lr 0.01 → 0.005" in cifartui("lr", "latest", "0.5").stdout
    wait_for(lambda: run.read_state().lr == 0.005, "the new rate")
    refused = cifartui("lr", "latest", "nan")
    assert (refused.returncode, "at most 100" in refused.stderr) == (2, True)

    said = wait_for(lambda: cifartui("validate", "latest").stdout.splitlines(), "an answer outside an epoch's own")
    assert "measuring the validation set" in said[0]
    assert said[1].startswith("validated in epoch") or said[1].startswith("epoch"), said
    assert "last.pt is written" in cifartui("save", "latest").stdout
    wait_for(lambda: run.read_state().epochs, "an epoch")
    cifartui("stop", "latest", "--after", "epoch")
    wait_for(lambda: run.worker_lives() is False, "the end")
    state = run.read_state()
    assert state.phase == "stopped"
    assert state.marks[0].command == "ScaleLearningRate"
    trained = state.epochs[-1].number

    before = (run.path / "run.json").read_bytes()
    refused = cifartui("resume", "latest", "--set", "data.image_size=64")
    assert (refused.returncode, "cannot change" in refused.stderr) == (2, True)
    done = cifartui("resume", "latest", "--epochs", str(trained + 1), "--output", "lines")
    assert done.returncode == 0, done.stderr
    assert f"with train.epochs={trained + 1}" in done.stdout
    state = run.read_state()
    assert state.phase == "completed"
    assert state.epochs[-1].number == state.total_epochs == trained + 1
    assert state.epochs[-1].lr == 0.005  # as it was scaled
    assert [e.changes for e in read_events(run.events) if isinstance(e, RunStarted)] == [
        (), (f"train.epochs={trained + 1}",),
    ]  # fmt: skip
    assert (run.path / "run.json").read_bytes() == before
    assert json.loads(run.amended.read_bytes())["preset"]["train"]["epochs"] == trained + 1

    refused = cifartui("resume", "latest")
    assert (refused.returncode, "--epochs +5" in refused.stderr) == (2, True)
    assert cifartui("resume", "latest", "--epochs", "+1", "--output", "quiet").returncode == 0
    assert run.read_state().epochs[-1].number == trained + 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in run.path.rglob("*"))


def test_the_notify_command_is_run_at_the_end_whatever_becomes_of_it(runs_dir: Path, tmp_path: Path) -> None:
    from engine.runs.notify_settings import of_command
    from engine.runs.run_options import RunOptions
    from engine.runs.start import start_run

    told = tmp_path / "told"
    command = f'echo "$CIFARTUI_OUTCOME $CIFARTUI_TEST" > {told}; echo said; exit 7'
    overrides = ("data.train_limit=640", "train.epochs=1")
    run = start_run(runs_dir, "demo", RunOptions(overrides=overrides, device="cpu", notify=of_command(command)))
    wait_for(lambda: run.worker_lives() is False and run.read_state().finished, "the end")
    wait_for(lambda: told.exists() and told.read_text().endswith("\n"), "the command")
    state = run.read_state()
    assert state.finished is not None
    assert told.read_text() == f"completed {state.finished.test_top1:.4f}\n"
    wait_for(lambda: "exit code 7" in run.log.read_text(), "the log")
    assert "said" in run.log.read_text()
