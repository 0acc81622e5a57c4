"""Runs with two processes on the processor: they train as one, are steered as one, and none dies unnoticed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from engine.data.shapes import CLASS_NAMES
from engine.journal import commands
from engine.journal.events import Alerted, BestMeasured, CommandApplied, RunStarted, StepsTrained
from engine.journal.jsonl import append_command, read_events
from engine.runs import run_dir
from engine.runs.resume import ACCEPT, resume_run
from engine.runs.run_dir import RunDir
from engine.runs.start import start_worker
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import data_of
from presets import catalog
from tests.bird_files import save
from tests.fork_client import ForkServer
from tests.waiting import finished, trains, wait_for
from tests.workers import Program

# BaseNet has no BatchNorm, which would go by the halves. 11 batches of 9 and 10 images, and a last one of 1 and 2.
PLAN = ("data.dataset=shapes100", "data.train_limit=212", "train.batch_size=19", "train.precision=fp32")
STAGES = """
extends = "basenet"
[[stages]]
name = "augmented"
epochs = 8
augment = [{ op = "random-crop", padding = 4 }, { op = "horizontal-flip" }]
[[stages]]
name = "plain"
epochs = 2
start_from = "best"
"""
LONG = "train.epochs=100000"
Start = Callable[..., RunDir]
Torchrun = Callable[..., "subprocess.Popen[bytes] | Program"]


@pytest.fixture
def start(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a small BaseNet on so many devices, in new processes unless the test uses `forked`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def start_small(*overrides: str, devices: int, launched: bool = True, name: str = "basenet") -> RunDir:
        preset = catalog.load(name, [*PLAN, *overrides])
        run = run_dir.create(runs_dir, "basenet", preset=preset, seed=3, device="cpu", devices=devices)
        if launched:
            start_worker(run)
        return run

    return start_small


def ask(run: RunDir, command: commands.AnyCommand) -> CommandApplied:
    append_command(run.commands, command)
    answer: CommandApplied = wait_for(lambda: run.read_state().commands.get(command.id), f"the answer to {command}")
    return answer


def ranks_of(run: RunDir) -> list[int]:
    started = run.read_state().started
    assert started is not None
    return [each.pid for each in started.ranks]


def curve(run: RunDir) -> list[list[float]]:
    return [[p.train_loss, p.train_top1, p.val_loss, p.val_top1, p.lr] for p in run.read_state().epochs]


def mean_norms(run: RunDir) -> list[float]:
    """Return the mean norm of the gradient in every epoch."""
    sums: dict[int, list[float]] = {}
    for event in read_events(run.events):
        if isinstance(event, StepsTrained):
            assert event.grad_norm is not None
            sums.setdefault(event.epoch, []).extend([event.grad_norm] * event.num_steps)
    return [sum(norms) / len(norms) for norms in sums.values()]


def clipped(run: RunDir) -> int:
    """Return the number of steps whose gradients were clipped."""
    return round(sum(e.clipped * e.num_steps for e in read_events(run.events) if isinstance(e, StepsTrained)))


@pytest.mark.usefixtures("forked")
def test_two_processes_train_as_one_although_one_is_killed_on_the_way(start: Start, tmp_path: Path) -> None:
    plan = tmp_path / "stages.toml"
    plan.write_text(STAGES)
    alone, together = start(devices=1, name=str(plan)), start(devices=2, name=str(plan))
    trains(together, epochs=1)
    os.kill(ranks_of(together)[1], signal.SIGKILL)
    assert finished(together).outcome == "failed"
    resume_run(together)
    end, expected = finished(together), finished(alone)
    assert end.outcome == expected.outcome == "completed", end.reason
    assert len(ranks_of(together)) == 2
    assert curve(together) == [pytest.approx(epoch, rel=1e-5) for epoch in curve(alone)]
    assert (end.best_epoch, end.test_top1) == (expected.best_epoch, expected.test_top1)
    told = read_events(together.events)
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    for key, weights in checkpoint_files.load(alone.last)["network"].items():
        torch.testing.assert_close(checkpoint_files.load(together.last)["network"][key], weights, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("forked")
def test_two_processes_weigh_draw_and_judge_classes_as_one(start: Start) -> None:
    weights = f'{{"{CLASS_NAMES[0]}" = 5.0, "{CLASS_NAMES[1]}" = 0.2}}'
    uneven = (f"loss.class_weights={weights}", "data.sampler=balanced", "train.best_by=val_balanced")
    uneven = (*uneven, "loss.label_smoothing=0.1", "train.epochs=3", "train.clip_norm=0.37")
    alone, together = start(*uneven, devices=1), start(*uneven, devices=2)
    end, expected = finished(together), finished(alone)
    assert end.outcome == expected.outcome == "completed", end.reason
    assert curve(together) == [pytest.approx(epoch, rel=1e-5) for epoch in curve(alone)]
    norms = [mean_norms(run) for run in (alone, together)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert clipped(together) == clipped(alone) > 0
    balanced = [point.val_balanced for point in alone.read_state().epochs]
    assert all(value is not None for value in balanced)
    assert [point.val_balanced for point in together.read_state().epochs] == balanced
    assert (end.best_epoch, end.best_val_balanced, end.test_balanced) == (
        expected.best_epoch, expected.best_val_balanced, expected.test_balanced,
    )  # fmt: skip
    for key, weights in checkpoint_files.load(alone.last)["network"].items():
        torch.testing.assert_close(checkpoint_files.load(together.last)["network"][key], weights, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("forked")
def test_commands_reach_every_rank_and_another_number_of_devices_goes_on(start: Start) -> None:
    run = start(LONG, devices=2)
    trains(run)
    for _ in range(20):
        paused = ask(run, commands.Pause())
        wait_for(lambda: run.read_state().phase == "paused", "the pause")
        validated = ask(run, commands.Validate())
        saved = ask(run, commands.SaveCheckpoint())
        assert saved.global_step == paused.global_step
        assert checkpoint_files.load(run.last)["progress"]["global_step"] == saved.global_step
        ask(run, commands.Continue())
        if validated.accepted:  # it is refused where the pause came into a validation
            break
    (done,) = wait_for(lambda: run.read_state().validations, "the validation")
    assert done.global_step == validated.global_step
    scaled = ask(run, commands.ScaleLearningRate(factor=0.5))
    wait_for(lambda: run.read_state().global_step > scaled.global_step, "training at the new rate")
    assert run.read_state().lr == pytest.approx(0.5 * run.read_info().preset.optimizer.lr)
    ask(run, commands.Stop())
    end = finished(run)
    assert end.outcome == "stopped", end.reason
    assert end.test_top1 is not None

    resume_run(run, devices=1)
    wait_for(lambda: run.read_state().epoch > end.epoch + 1, "two epochs of one process")
    ask(run, commands.Stop())
    assert finished(run).outcome == "stopped"
    whole = [point.number for point in run.read_state().epochs if not point.partial]
    assert whole == list(range(1, whole[-1] + 1))
    assert run.read_state().lr == pytest.approx(0.5 * run.read_info().preset.optimizer.lr)
    started = [event for event in read_events(run.events) if isinstance(event, RunStarted)]
    assert [len(event.ranks) for event in started] == [2, 0]
    assert any("1 device after 2 devices" in alert.text for alert in run.read_state().alerts)


@pytest.mark.alone
@pytest.mark.usefixtures("forked")
def test_a_rank_that_is_killed_ends_the_run_by_name_and_it_can_be_resumed(start: Start) -> None:
    run = start(LONG, devices=2)
    trains(run, epochs=1)
    wait_for(run.last.exists, "a checkpoint")
    pid = ranks_of(run)[1]
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    end = finished(run)
    assert time.monotonic() - killed_at < 10
    assert end.outcome == "failed"
    assert f"Rank 1 on {socket.gethostname()} (pid {pid}) died of signal 9" in end.reason
    assert not any(psutil.pid_exists(each) for each in ranks_of(run))
    step = checkpoint_files.load(run.last)["progress"]["global_step"]

    resume_run(run)
    wait_for(lambda: run.read_state().global_step > step and not run.read_state().is_finished, "training")
    started = run.read_state().started
    assert started is not None
    assert started.global_step == step

    mark = run.read_mark()  # and now the process that holds the lock
    assert mark is not None
    assert mark.holds == ("cpu",)
    os.kill(mark.pid, signal.SIGKILL)
    wait_for(lambda: not any(psutil.pid_exists(each) for each in ranks_of(run)), "the end of all ranks")
    assert run.worker_lives() is False


@pytest.mark.alone
@pytest.mark.usefixtures("forked")
def test_a_rank_that_hangs_ends_the_run_by_name(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARTUI_RANK_TIMEOUT", "2")
    run = start(LONG, devices=2)
    trains(run)
    pid = ranks_of(run)[1]
    os.kill(pid, signal.SIGSTOP)
    end = finished(run)
    assert end.outcome == "failed"
    assert f"Rank 1 on {socket.gethostname()} (pid {pid}) has not been heard of for 2 s" in end.reason
    assert not psutil.pid_exists(pid)


@pytest.mark.usefixtures("forked")
def test_sigterm_to_the_one_that_holds_the_lock_stops_in_order(start: Start) -> None:
    run = start(LONG, devices=2)
    trains(run)
    mark = run.read_mark()
    assert mark is not None
    os.kill(mark.pid, signal.SIGTERM)
    end = finished(run)
    assert end.outcome == "stopped"
    assert "SIGTERM" in end.reason
    assert run.best.exists()


@pytest.mark.usefixtures("forked")
def test_a_loss_that_is_no_number_is_said_by_rank_0(start: Start) -> None:
    end = finished(start(LONG, "optimizer.lr=1e30", devices=2))
    assert end.outcome == "failed"
    assert "no longer a number" in end.reason
    assert "Rank 1" not in end.reason


def test_sigterm_before_there_is_anything_to_stop_is_not_lost(start: Start) -> None:
    run = start(LONG, devices=2)
    mark = run.read_mark()
    assert mark is not None
    wait_for(lambda: psutil.Process(mark.pid).children(), "the ranks, which are importing torch now")
    os.kill(mark.pid, signal.SIGTERM)
    end = finished(run)
    assert end.outcome == "stopped", end.reason
    assert "SIGTERM" in end.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs here")
@pytest.mark.usefixtures("forked")
def test_more_gpus_than_there_are_is_refused_in_words(start: Start, runs_dir: Path) -> None:
    preset = catalog.load("basenet", PLAN)
    run = run_dir.create(runs_dir, "basenet", preset=preset, seed=0, device="cuda", devices=2)
    start_worker(run)
    assert "torch sees no CUDA GPUs here, fewer than the 2 devices asked for" in finished(run).reason


def test_one_certain_gpu_and_several_devices_are_refused(
    cifartui: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    refused = cifartui("train", "demo", "--device", "cuda:1", "--devices", "2")
    assert refused.returncode == 2
    assert "cuda:1 is one device, and 2 are asked for; use auto, cuda or cpu with several." in refused.stderr


def test_prepare_makes_the_directory_and_prints_it(
    cifartui: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    prepared = cifartui("train", "demo", "--prepare", "--set", "train.epochs=3")
    assert prepared.returncode == 0, prepared.stderr
    run = RunDir(Path(prepared.stdout.strip()))
    assert run.read_info().preset.train.epochs == 3
    assert run.read_mark() is None
    assert not run.events.exists()


# --- two machines, both of them this one -----------------------------------------------------------


@pytest.fixture
def torchrun(fork_server: ForkServer) -> Iterator[Torchrun]:
    """Start torchrun as on one of two machines: as a user does, or forked."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[subprocess.Popen[bytes] | Program] = []

    def start_node(run: RunDir, *, is_forked: bool, **environment: str) -> "subprocess.Popen[bytes] | Program":
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
            *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"),
            *("--local-addr=127.0.0.1", "-m", "engine.training.distributed.rank", str(run.path), "--resume"),
        ]
        variables = {**os.environ, **environment}
        with run.log.open("ab") as log, Path(os.devnull).open() as nothing:
            started.append(
                Program(fork_server, [nothing.fileno(), log.fileno(), log.fileno()], variables, command=command)
                if is_forked
                else subprocess.Popen(command, env=variables, stdin=nothing, stdout=log, stderr=log)
            )
        return started[-1]

    yield start_node
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def test_two_machines_train_one_run_by_torchrun(start: Start, torchrun: Torchrun) -> None:
    run = start(LONG, devices=1, launched=False)
    nodes = [torchrun(run, is_forked=False), torchrun(run, is_forked=False)]
    trains(run, epochs=1)
    started, mark = run.read_state().started, run.read_mark()
    assert started is not None
    assert len(started.ranks) == 2
    assert mark is not None
    assert (mark.pid, mark.holds) == (started.ranks[0].pid, ("cpu",))
    append_command(run.commands, commands.Stop())
    assert finished(run).outcome == "stopped"
    assert [node.wait(60) for node in nodes] == [0, 0]

    nodes = [
        torchrun(run, is_forked=True),
        torchrun(run, is_forked=True),
    ]  # the same line again: the old Stop is not for these
    wait_for(lambda: run.read_state().finished is None and run.worker_lives(), "the second start")
    trains(run, epochs=len(run.read_state().epochs) + 1)
    append_command(run.commands, commands.Abort())
    assert finished(run).outcome == "aborted"
    assert [node.wait(60) for node in nodes] == [0, 0]


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("num_images", [1, 2])
def test_fewer_images_than_devices_are_trained_on(start: Start, tmp_path: Path, num_images: int) -> None:
    images = tmp_path / "images"
    for part, number in (("train", 0), ("train", 1), ("val", 0), ("test", 1)):
        path = images / part / f"class-{number}" / "0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (200 * number, 0, 0)).save(path)
    data = ("data.dataset=class-folders", f"data.path={images}", f"data.train_limit={num_images}", "train.epochs=2")
    alone, together = start(*data, devices=1), start(*data, devices=3)
    assert (finished(alone).outcome, finished(together).outcome) == ("completed", "completed")
    assert [value for epoch in curve(together) for value in epoch] == pytest.approx(
        [value for epoch in curve(alone) for value in epoch], rel=1e-4
    )
    assert finished(together).test_top1 == finished(alone).test_top1


def test_a_machine_that_cannot_read_the_data_is_named(start: Start, torchrun: Torchrun, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number in range(40):
        path = images / ("test" if number % 4 == 0 else "train") / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    run = start(LONG, "data.dataset=class-folders", f"data.path={images}", devices=1, launched=False)
    torchrun(run, is_forked=True)
    torchrun(run, is_forked=True, CIFARTUI_CACHE="/dev/null/none")
    end = finished(run)
    assert end.outcome == "failed"
    assert f"on {socket.gethostname()} (pid " in end.reason
    assert "failed: " in end.reason


@pytest.mark.usefixtures("forked")
def test_changed_data_is_refused_and_accepted_by_all_ranks_as_by_one(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "photos"

    def paint(part: str, name: str, numbers: range) -> None:
        for number in numbers:
            save(folder / part / name / f"{number:02}.png", (number * 8, 250 if name == "green" else 0, 90))

    for name in ("green", "red"):
        paint("train", name, range(20))
        paint("val", name, range(7))
    data = ("data.dataset=class-folders", f"data.path={folder}", "data.train_limit=1000", "train.batch_size=9")
    alone, together = (start(*data, "train.epochs=2", devices=devices) for devices in (1, 2))
    for run in (alone, together):
        assert finished(run).outcome == "completed"
    paint("train", "red", range(20, 31))
    paint("val", "red", range(7, 12))
    for run in (alone, together):
        resume_run(run, ["train.epochs=3"])
        end = finished(run)
        assert end.outcome == "failed"
        assert "51 training images, not 40, 19 validation images, not 14" in end.reason
        errors = [
            event for event in read_events(run.events) if isinstance(event, Alerted) and event.severity == "error"
        ]
        assert len(errors) == 1
        resume_run(run, [ACCEPT])
        assert finished(run).outcome == "completed", finished(run).reason
    measured = {
        run.id: [event for event in read_events(run.events) if isinstance(event, BestMeasured)]
        for run in (alone, together)
    }
    (one,), (both,) = measured.values()
    assert (both.epoch, both.global_step) == (one.epoch, one.global_step)
    assert both.val_top1 == pytest.approx(one.val_top1)
    assert both.val_loss == pytest.approx(one.val_loss, rel=1e-5)
    assert len(ranks_of(together)) == 2
    assert curve(together) == [pytest.approx(epoch, rel=1e-4) for epoch in curve(alone)]
    assert data_of(checkpoint_files.load(together.last)) == data_of(checkpoint_files.load(alone.last))
    again = finished(together)
    resume_run(together, ["train.epochs=4"])  # what was accepted is not asked again
    assert finished(together).epoch == again.epoch + 1
    assert sum(isinstance(event, BestMeasured) for event in read_events(together.events)) == 1
