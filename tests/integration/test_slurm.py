"""A run under a scheduler: it gets SIGTERM and a notice, is put back into the queue, and goes on where it was."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engine.journal import events as ev
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir, list_runs
from tests.fork_client import ForkServer
from tests.waiting import PATIENCE_S, wait_for
from tests.workers import CommandLine

NOTICE_S = 30.0
SMALL = ("--set", "data.train_limit=1280", "--set", "train.batch_size=32", "--device", "cpu")
GUIDE = Path(__file__).parents[2] / "docs/slurm.md"


Train = Callable[..., CommandLine]


@pytest.fixture
def train(cifartui_process: Callable[..., CommandLine]) -> Train:
    """Start `cifartui train demo`, small."""
    return partial(cifartui_process, "train", "demo", *SMALL, "--output", "lines")


def only_run(runs_dir: Path) -> RunDir:
    run: RunDir = wait_for(lambda: next(iter(list_runs(runs_dir)), None), "a run folder")
    return run


def ends(process: "CommandLine | subprocess.Popen[str]") -> tuple[int, str]:
    _, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


def test_sigterm_saves_then_validates_then_tests_and_the_run_goes_on_by_its_name(train: Train, runs_dir: Path) -> None:
    command = ("--epochs", "400", "--name", "job-17")
    process = train(*command)
    run = only_run(runs_dir)
    assert run.id.partition("-")[2] == "job-17"
    wait_for(lambda: run.read_state().steps, "training")
    told = time.time()
    process.send_signal(signal.SIGTERM)
    code, said = ends(process)
    assert code == 143
    assert "SIGTERM: asked to stop after this batch" in said
    assert run.worker_lives() is False
    written = read_events(run.events)
    kinds = [type(event) for event in written if event.time >= told]
    saved = next(event for event in written if event.time >= told and isinstance(event, ev.CheckpointSaved))
    assert saved.kind == "last"
    assert saved.time - told < NOTICE_S
    assert kinds.index(ev.CheckpointSaved) < kinds.index(ev.EpochCompleted) < kinds.index(ev.RunFinished)
    end = run.read_state().finished
    assert end is not None
    assert (end.outcome, end.global_step) == ("stopped", saved.global_step)

    again = train(*command)  # what the script does after a requeue
    wait_for(lambda: run.read_state().global_step > end.global_step, "training from there on")
    assert list_runs(runs_dir)[0].id == run.id
    assert len(list_runs(runs_dir)) == 1
    again.send_signal(signal.SIGTERM)
    assert ends(again)[0] == 143


def test_a_second_sigterm_ends_validation_and_test(train: Train, runs_dir: Path) -> None:
    process = train("--epochs", "400", "--set", "data.image_size=192")  # validation takes a while
    run = only_run(runs_dir)
    wait_for(lambda: run.read_state().steps, "training")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: run.read_state().evaluation, "validation")
    assert run.last.exists()
    process.send_signal(signal.SIGTERM)
    code, said = ends(process)
    assert code == 143
    assert "SIGTERM again" in said
    state = run.read_state()
    assert state.finished is not None
    assert state.finished.outcome == "stopped"
    assert "received while the run was ending" in state.finished.reason
    assert not state.epochs


def test_sigterm_while_data_is_prepared_ends_the_run_before_training(runs_dir: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cifartui",
        "train",
        "demo",
        *SMALL,
        "--epochs",
        "2",
    ]  # forks have the data already
    process = subprocess.Popen(
        command, env={**os.environ, "CIFARTUI_RUNS": str(runs_dir)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run = only_run(runs_dir)
    wait_for(lambda: run.read_state().data_progress, "the data being generated")
    process.send_signal(signal.SIGTERM)
    assert ends(process)[0] == 143
    end = run.read_state().finished
    assert end is not None
    assert (end.outcome, end.global_step) == ("stopped", 0)
    assert "before training began" in end.reason


def test_a_killed_job_is_gone_on_with_and_a_completed_one_left_alone(train: Train, runs_dir: Path) -> None:
    command = ("--epochs", "3", "--name", "job-18")
    process = train(*command)
    run = only_run(runs_dir)
    wait_for(run.last.exists, "a checkpoint")
    mark = run.read_mark()
    assert mark is not None
    process.kill()
    os.kill(mark.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: run.worker_lives() is False, "the death of the worker")
    assert ends(train(*command))[0] == 0
    state = run.read_state()
    assert state.phase == "completed"
    assert [type(event) for event in state.log].count(ev.RunStarted) == 2
    size = run.events.stat().st_size
    assert ends(train(*command))[0] == 0
    assert run.events.stat().st_size == size


@pytest.mark.parametrize("is_last", [False, True])
def test_the_script_of_the_guide_requeues_itself_until_the_run_is_completed(
    fork_server: ForkServer, runs_dir: Path, tmp_path: Path, is_last: bool
) -> None:
    """The script as it is printed, with a small preset, and a `scontrol` that notes what it was asked."""
    found = re.search(r"```bash\n(#!/bin/bash\n.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found
    script = found[1].replace("$HOME/runs", str(runs_dir)).replace("CIFARTUI_DATA=$HOME/data", "")
    epochs = "1" if is_last else "400"
    script = script.replace("train vgg-custom", f"train demo --epochs {epochs} {' '.join(SMALL)}")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, content in {
        "cifartui": f'exec {shlex.join(fork_server.command())} "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/asked',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{content}\n")
        (tools / name).chmod(0o755)
    job = subprocess.Popen(
        ["bash", "-c", script],
        env={**os.environ, **fork_server.variables, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    if not is_last:
        run = only_run(runs_dir)
        assert run.id.endswith("-job-4711")
        wait_for(lambda: run.read_state().steps, "training")
        job.send_signal(signal.SIGTERM)  # to the script alone, as --signal=B: does
    code, said = ends(job)
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert (code, asked) == ((0, "") if is_last else (143, "requeue 4711\n")), said


def test_names_are_for_one_run_and_for_one_plan(
    cifartui: Callable[..., "subprocess.CompletedProcess[str]"], runs_dir: Path
) -> None:
    for arguments, why in (
        (("demo", "basenet", "--name", "x"), "--name is for one run"),
        (("demo", "--name", "../x"), "cannot be the name of a run"),
        (("demo", "--name", "latest"), "cannot be the name of a run"),
    ):
        refused = cifartui("train", *arguments)
        assert refused.returncode == 2
        assert why in refused.stderr
    assert not runs_dir.exists()


def test_sigterm_during_a_validation_saves_the_epoch_before_that_is_over(train: Train, runs_dir: Path) -> None:
    process = train("--epochs", "400", "--set", "data.image_size=128", "--set", "data.train_limit=64")
    run = only_run(runs_dir)
    wait_for(lambda: run.read_state().evaluation, "the first validation")
    assert not run.last.exists()
    process.send_signal(signal.SIGTERM)
    assert ends(process)[0] == 143
    kinds = [type(event) for event in read_events(run.events)]
    assert kinds.index(ev.CheckpointSaved) < kinds.index(ev.EpochCompleted)
    assert run.read_state().phase == "stopped"
