"""A worker from its start to its end: real processes where that matters, forked ones elsewhere."""

import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from engine.journal import commands
from engine.journal.events import CommandApplied, EpochCompleted, StepsTrained
from engine.journal.jsonl import append_command, read_events
from engine.runs.run_dir import RunDir
from engine.runs.start import start_worker
from engine.training import checkpoint_files
from presets.errors import CifartuiError
from tests.waiting import finished, trains, wait_for
from tests.workers import ForkWorker

LONG = "train.epochs=1000"
Start = Callable[..., RunDir]


@pytest.fixture
def start_process(demo: Start) -> Start:
    """Make a run of the demo and start its worker as the program does."""

    def start_demo(*overrides: str) -> RunDir:
        run = demo(*overrides)
        start_worker(run)
        return run

    return start_demo


def test_a_run_trains_to_its_end_and_tests_its_best_weights(start_process: Start) -> None:
    run = start_process("train.epochs=2")
    end = finished(run)
    state = run.read_state()
    assert end.outcome == "completed", end.reason
    assert [point.number for point in state.epochs] == [1, 2]
    assert end.test_top1 is not None
    assert end.flops is not None
    assert end.flops.train > end.flops.evaluation > 0
    assert end.best_val_top1 == max(point.val_top1 for point in state.epochs)
    assert state.started is not None
    assert {"python", "cifartui", "torch", "torchvision"} == state.started.versions.keys()
    assert state.started.versions["torch"] == torch.__version__
    assert run.best.exists()
    assert run.last.exists()
    assert [event.seq for event in read_events(run.events)] == list(range(1, len(read_events(run.events)) + 1))
    assert state.device is not None
    assert state.device.host.process_rss_bytes > 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in run.path.rglob("*"))


def test_a_stop_in_mid_epoch_validates_keeps_and_tests(start: Start) -> None:
    run = start(LONG)
    trains(run, epochs=1)
    stop = commands.Stop()
    append_command(run.commands, stop)
    end = finished(run)
    assert end.outcome == "stopped"
    assert "by command" in end.reason
    assert end.test_top1 is not None
    assert run.best.exists()
    answer = run.read_state().commands[stop.id]
    assert answer.accepted
    assert answer.global_step == end.global_step


def test_a_stop_after_this_epoch_ends_with_a_whole_one(start: Start) -> None:
    run = start(LONG)
    trains(run)
    append_command(run.commands, commands.Stop(after="epoch"))
    end = finished(run)
    last = [event for event in read_events(run.events) if isinstance(event, EpochCompleted)][-1]
    assert end.outcome == "stopped"
    assert not last.partial


def test_pause_continue_checkpoint_and_abort(start: Start) -> None:
    run = start(LONG)
    trains(run)
    append_command(run.commands, commands.Pause())
    wait_for(lambda: run.read_state().phase == "paused", "the pause")
    save = commands.SaveCheckpoint()
    append_command(run.commands, save)
    saved: CommandApplied = wait_for(lambda: run.read_state().commands.get(save.id), "the checkpoint")
    assert saved.accepted
    assert checkpoint_files.load(run.last)["progress"]["global_step"] == saved.global_step
    append_command(run.commands, commands.Continue())
    wait_for(lambda: run.read_state().global_step > saved.global_step, "training after the pause")
    append_command(run.commands, commands.Abort())
    assert finished(run).outcome == "aborted"
    assert run.last.exists()


def test_a_terminal_that_closes_does_nothing_and_sigterm_stops(start_process: Start) -> None:
    run = start_process(LONG)
    trains(run)
    mark = run.read_mark()
    assert mark is not None
    assert os.getsid(mark.pid) != os.getsid(0)
    os.kill(mark.pid, signal.SIGHUP)
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training after SIGHUP")
    os.kill(mark.pid, signal.SIGTERM)
    end = finished(run)
    assert end.outcome == "stopped"
    assert "SIGTERM" in end.reason
    assert run.best.exists()


@pytest.mark.usefixtures("forked")
def test_a_killed_run_resumes_to_the_very_weights_of_an_uninterrupted_one(start_process: Start) -> None:
    plan = ("train.epochs=3", "schedule.name=plateau", "schedule.patience=0")
    whole, run = start_process(*plan), start_process(*plan)
    wait_for(run.last.exists, "a checkpoint")
    mark = run.read_mark()
    assert mark is not None
    os.kill(mark.pid, signal.SIGKILL)
    wait_for(lambda: run.worker_lives() is False, "the death of the worker")
    start_worker(run, resume=True)
    end = finished(run)
    finished(whole)

    assert end.outcome == "completed", end.reason
    for name in ("last.pt", "best.pt"):
        ours, theirs = checkpoint_files.load(run.checkpoints / name), checkpoint_files.load(whole.checkpoints / name)
        for key, weights in theirs["network"].items():
            assert torch.equal(ours["network"][key], weights), key
    metrics = [(p.train_loss, p.train_top1, p.val_loss, p.val_top1, p.lr) for p in run.read_state().epochs]
    assert metrics == [(p.train_loss, p.train_top1, p.val_loss, p.val_top1, p.lr) for p in whole.read_state().epochs]


def test_a_stopped_run_resumes_within_its_epoch(start: Start, fork_worker: ForkWorker) -> None:
    plan = ("train.epochs=2", "data.train_limit=3200")
    whole = start(*plan)
    finished(whole)

    run = start(*plan)
    trains(run)
    append_command(run.commands, commands.Stop())
    assert finished(run).outcome == "stopped"
    fork_worker(run, resume=True)
    assert finished(run).outcome == "completed"
    ours, theirs = checkpoint_files.load(run.last), checkpoint_files.load(whole.last)
    assert ours["progress"]["epoch_sums"] == theirs["progress"]["epoch_sums"]
    assert all(torch.equal(ours["network"][key], theirs["network"][key]) for key in theirs["network"])


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(start: Start, fork_worker: ForkWorker) -> None:
    run = start("train.epochs=3")
    finished(run)
    run.last.write_bytes(run.last.read_bytes()[:1000])
    fork_worker(run, resume=True)
    assert finished(run).outcome == "completed"
    assert any(alert.kind == "damaged-checkpoint" for alert in run.read_state().alerts)


def test_a_second_worker_on_the_same_run_is_refused(start: Start) -> None:
    run = start(LONG)
    with pytest.raises(CifartuiError, match="already has a worker"):
        start_worker(run)


def test_the_same_seed_trains_the_same_and_another_does_not(start: Start) -> None:
    runs = [start("train.epochs=1", seed=seed) for seed in (1, 1, 2)]
    losses = []
    for run in runs:
        finished(run)
        losses.append(run.read_state().epochs[0].train_loss)
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_loss_that_is_no_number_ends_the_run_in_words(start: Start) -> None:
    run = start(LONG, "optimizer.name=sgd", "optimizer.lr=1e30")
    end = finished(run)
    assert end.outcome == "failed"
    assert "no longer a number" in end.reason
    assert f"cifartui resume {run.id} --set optimizer.lr=5e+29" in end.reason


def test_what_nobody_foresaw_is_one_sentence_and_the_traceback_is_in_the_log(start: Start) -> None:
    run = start("data.dataset=class-folders", "data.path=/nowhere/at/all")
    end = finished(run)
    assert end.outcome == "failed"
    assert "/nowhere/at/all" in end.reason
    assert "Traceback" not in end.reason


def test_steps_are_told_at_most_ten_times_a_second(start: Start) -> None:
    run = start("train.epochs=3")
    finished(run)
    told = [event for event in read_events(run.events) if isinstance(event, StepsTrained)]
    by_epoch = {number: [event.time for event in told if event.epoch == number] for number in (1, 2, 3)}
    for times in by_epoch.values():
        # the last report of an epoch does not wait
        gaps = [after - before for before, after in pairwise(times[:-1])]
        assert all(gap > 0.09 for gap in gaps)
