"""What ends a worker, a viewer or a terminal from outside."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.journal import commands
from engine.journal.jsonl import append_command
from engine.runs import start
from engine.runs.run_dir import RunDir
from presets import schema
from tests.cifar_files import published_files, write_archive
from tests.faults.conftest import status
from tests.faults.serving import Serve
from tests.terminal import Terminal
from tests.waiting import PATIENCE_S, wait_for
from tests.workers import HOME, ForkWorker, Worker

Make, Open, Start = Callable[..., RunDir], Callable[..., Terminal], Callable[..., RunDir]
PHASES = ["start", "download", "decode", "build", "train", "evaluate", "checkpoint", "paused"]
PREPARING = {"start", "download", "decode"}


@pytest.fixture
def in_phase(
    tiny: Make, fork_worker: ForkWorker, serve: Serve, tmp_path: Path
) -> Callable[..., tuple[Worker, Callable[[], Worker]]]:
    """Return a worker in the middle of a phase, and how to resume its run."""

    def get_there(phase: str, epochs: int = 3) -> tuple[Worker, Callable[[], Worker]]:
        data, url = None, {}
        if phase == "download":
            data = schema.Data(dataset="cifar100", image_size=32, normalize="half")
            archive = write_archive(tmp_path / "made.tar.gz", "cifar-100-python", published_files())
            elsewhere = str(tmp_path / "nothing")
            url = serve.url(archive.read_bytes()) | {"CIFARTUI_DATA": elsewhere, "XDG_DATA_HOME": elsewhere}
        run = tiny(epochs, data=data, data_dir=tmp_path / "data")
        (tmp_path / "data").mkdir()
        worker = fork_worker(run, "train" if phase == "paused" else phase, **url)
        worker.is_held()
        if phase == "paused":
            append_command(run.commands, commands.Pause())
            worker.go_on()
            wait_for(lambda: run.read_state().phase == "paused", "the pause", patience_s=20)
        return worker, lambda: fork_worker(run, resume=True, **url)

    return get_there


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_and_sigint_end_a_run_in_order_in_every_phase(
    in_phase: Callable, phase: str, number: signal.Signals
) -> None:  # type: ignore[type-arg]
    worker, _resume = in_phase(phase, epochs=50_000)
    worker.kill(signal.SIGHUP)
    worker.kill(number)
    if phase != "paused":
        worker.go_on()
    end = worker.ends()
    assert end is not None
    assert (end.outcome, end.reason.startswith(f"{number.name} was received")) == ("stopped", True), end.reason
    assert ("before training" in end.reason) == (phase in PREPARING)
    assert status(worker.run) == "stopped"
    if worker.run.best.exists():
        assert end.test_top1 is not None
    assert not (worker.run.path / "reserve").exists()


@pytest.mark.parametrize("phase", PHASES)
def test_sighup_changes_nothing_in_any_phase(in_phase: Callable, phase: str) -> None:  # type: ignore[type-arg]
    worker, _resume = in_phase(phase)
    worker.kill(signal.SIGHUP)
    if phase == "paused":
        append_command(worker.run.commands, commands.Continue())
    else:
        worker.go_on()
    end = worker.ends()
    assert end is not None
    assert (end.outcome, len(worker.run.read_state().epochs)) == ("completed", 3), end.reason


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_worker_is_lost_and_its_run_resumes_in_every_phase(in_phase: Callable, phase: str) -> None:  # type: ignore[type-arg]
    worker, resume = in_phase(phase)
    run = worker.run
    finished = [point.number for point in run.read_state().epochs]
    worker.kill(signal.SIGKILL)
    assert worker.ends() is None
    assert status(run) == "lost"
    (run.path / "held").unlink(missing_ok=True)
    again = resume()
    end = again.ends()
    assert end is not None
    assert end.outcome == "completed", end.reason
    state = run.read_state()
    assert [point.number for point in state.epochs] == [1, 2, 3]
    assert [point.number for point in state.epochs[: len(finished)]] == finished
    assert not list(run.checkpoints.glob(".*"))


def test_a_stop_that_comes_before_the_worker_listens_is_not_lost(tiny: Make) -> None:
    run = tiny()
    os.kill(start.start_worker(run), signal.SIGTERM)
    wait_for(lambda: not run.worker_lives(), "the end")
    end = run.read_state().finished
    assert end is not None, run.log.read_text()
    assert (end.outcome, "SIGTERM" in end.reason) == ("stopped", True)


def test_a_foreground_train_that_is_killed_leaves_its_worker_training(tiny: Make, runs_dir: Path, birds: Path) -> None:
    from engine.runs.run_dir import list_runs

    table = f"""
        title = "Tiny"
        data = {{ dataset = "class-folders", path = "{birds}", image_size = 8, normalize = "half" }}
        model = {{ network = "vgg", blocks = [[4]], pools = ["avg"] }}
        train = {{ epochs = 50000, batch_size = 4 }}
        optimizer = {{ name = "sgd", lr = 0.01 }}
    """
    preset = runs_dir.parent / "tiny.toml"
    preset.write_text("\n".join(line.strip() for line in table.splitlines()))
    closed = (
        "import os, sys; [os.close(fd) for fd in (0, 1, 2)]; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = ["-m", "cifartui", "train", str(preset), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", closed, *command], cwd=HOME, env={**os.environ, "CIFARTUI_RUNS": str(runs_dir)}
    )
    try:
        run: RunDir = wait_for(lambda: next(iter(list_runs(runs_dir)), None), "a run")
        wait_for(lambda: run.worker_lives() and run.read_state().steps, "training")
        process.kill()
        process.wait(PATIENCE_S)
        step = run.read_state().global_step
        wait_for(lambda: run.read_state().global_step > step, "training without the one who started it")
        assert run.worker_lives()
    finally:
        process.kill()


def test_a_killed_dashboard_loses_nothing_and_attach_shows_all(
    tiny: Make, fork_worker: ForkWorker, terminals: Open
) -> None:
    run = tiny(epochs=50_000)
    fork_worker(run).trains()
    first = terminals("attach", run.id)
    first.shows("training")
    first.process.kill(signal.SIGKILL)
    wait_for(lambda: not first.process.isalive(), "the end of the dashboard")
    epochs = len(run.read_state().epochs)
    wait_for(lambda: len(run.read_state().epochs) > epochs, "training without the dashboard")
    again = terminals("attach", run.id)
    again.shows("training", "top-1", "epoch")
    assert [point.number for point in run.read_state().epochs][:epochs] == list(range(1, epochs + 1))
