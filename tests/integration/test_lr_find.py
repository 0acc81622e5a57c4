"""Real range tests of small runs: what is in their journal and folder, how they end, and what is printed."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from engine.journal import events as ev
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir, list_runs
from tests.waiting import wait_for

Call = Callable[..., CompletedProcess[str]]
SMALL = ("--set", "data.train_limit=1000", "--set", "train.batch_size=16", "--device", "cpu")


def the_run(runs_dir: Path) -> RunDir:
    (run,) = list_runs(runs_dir)
    return run


def one_sentence(result: CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


@pytest.fixture
def tested(cifartui: Call, runs_dir: Path) -> CompletedProcess[str]:
    """A test that goes through its images more than once, and far enough for the loss to rise."""
    return cifartui("lr-find", "demo", "--from", "1e-5", "--to", "1", "--steps", "80", *SMALL)


def test_a_range_test_from_end_to_end(tested: CompletedProcess[str], cifartui: Call, runs_dir: Path) -> None:
    assert tested.returncode == 0, tested.stderr
    run = the_run(runs_dir)
    told = read_events(run.events)
    steps = [event for event in told if isinstance(event, ev.StepsTrained)]
    assert [step.global_step for step in steps] == list(range(1, 81))
    assert steps[0].lr == pytest.approx(1e-5)
    assert steps[-1].lr == pytest.approx(1.0)
    assert {step.num_images for step in steps} == {16}
    assert not any(isinstance(event, ev.EpochCompleted | ev.CheckpointSaved) for event in told)
    assert not any(event.severity != "notice" for event in told if isinstance(event, ev.Alerted))
    assert list(run.checkpoints.iterdir()) == []
    last = told[-1]
    assert isinstance(last, ev.RunFinished)
    assert (last.outcome, last.global_step) == ("completed", 80)
    assert "all 80 batches are trained, up to lr 1" in tested.stdout
    assert "1e-5" in tested.stdout

    shown = cifartui("show", run.id)
    assert shown.returncode == 0, shown.stderr
    assert "cifartui resume" not in shown.stdout
    record = json.loads(cifartui("show", run.id, "--json").stdout)
    assert len(record["range_test"]["points"]) == len(record["range_test"]["smoothed"]) == 80
    reason = record["range_test"]["suggestion"]["reason"]
    assert reason in " ".join(tested.stdout.split())
    assert reason in " ".join(shown.stdout.split())

    assert "is a range test, which keeps no weights" in one_sentence(cifartui("resume", run.id))
    assert "is a range test, which keeps no weights" in one_sentence(cifartui("evaluate", run.id, "--device", "cpu"))


def test_a_loss_that_explodes_ends_the_test_and_not_the_run(cifartui: Call, runs_dir: Path) -> None:
    result = cifartui("lr-find", "demo", "--from", "1e-3", "--to", "1e5", "--steps", "80", *SMALL,
                      "--set", 'optimizer={name="sgd", lr=0.1, momentum=0.9}')  # fmt: skip
    assert result.returncode == 0, result.stderr
    run = the_run(runs_dir)
    state = run.read_state()
    assert state.finished is not None
    assert state.finished.outcome == "completed"
    assert state.global_step < 80
    assert state.finished.reason.startswith(("the loss had risen to", "the loss was no longer a number at"))
    assert state.finished.reason in result.stdout
    assert not [alert for alert in state.alerts if alert.severity != "notice"]
    assert list(run.checkpoints.iterdir()) == []


def test_a_range_test_is_stopped_and_aborted_as_any_run(cifartui: Call, runs_dir: Path) -> None:
    before: set[str] = set()
    for wish, outcome in (("stop", "stopped"), ("abort", "aborted")):
        assert cifartui("lr-find", "demo", "--steps", "100000", "--detach", *SMALL).returncode == 0
        (run,) = (each for each in list_runs(runs_dir) if each.id not in before)  # both may begin in the same second
        before.add(run.id)
        told = cifartui(wish, run.id)
        assert told.returncode == 0, told.stderr
        assert "best weights" not in told.stdout
        wait_for(lambda run=run: run.worker_lives() is False, "the end")
        finished = run.read_state().finished
        assert finished is not None
        assert finished.outcome == outcome


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--from", "1", "--to", "0.1"), "not from 1 to 0.1"),
        (("--from", "0"), "not from 0 to"),
        (("--to", "nan"), "to nan"),
        (("--to", "1e9"), "at most 1e+06"),
        (("--set", "nothing.here=1"), "nothing"),
    ],
)
def test_what_makes_no_test_is_refused_in_a_sentence(cifartui: Call, options: tuple[str, ...], part: str) -> None:
    assert part in one_sentence(cifartui("lr-find", "demo", *options))
