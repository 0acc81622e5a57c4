"""Real range tests and searches of small runs: what is in their journals, how they end, and what is printed."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from engine.journal import events as ev
from engine.journal.commands import Pause
from engine.journal.jsonl import append_command, read_events
from engine.runs.run_dir import RunDir, list_runs
from tests.integration.test_class_folders import write_classes
from tests.waiting import wait_for
from tests.workers import CommandLine
from tui.cli.lr_search import parse_budget

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


@pytest.fixture
def thorough(tmp_path: Path) -> tuple[str, ...]:
    """A search of three rates on forty images, which trains for no longer than the preset, whatever an epoch takes."""
    write_classes(tmp_path / "mine")
    settings = ("train.epochs=20", "train.batch_size=4", "data.validation=0.5", 'optimizer={name="sgd", lr=1e-3}')
    return (
        "lr-find", "demo", "--thorough", "--budget", "1h", "--from", "1e-3", "--to", "4e-3", "--device", "cpu",
        "--data", str(tmp_path / "mine"), *(word for setting in settings for word in ("--set", setting)),
    )  # fmt: skip


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_search_is_stopped_goes_on_and_trains_nothing_twice(
    cifartui: Call, cifartui_process: Callable[..., CommandLine], runs_dir: Path, thorough: tuple[str, ...]
) -> None:
    begun = cifartui_process(*thorough, "--output", "json")
    wait_for(lambda: len(list_runs(runs_dir)) == 2 and list_runs(runs_dir)[0].read_state().steps, "the first rate")
    under_way = list_runs(runs_dir)[0]
    append_command(under_way.commands, Pause())
    wait_for(lambda: under_way.read_state().phase == "paused", "the pause")
    begun.send_signal(signal.SIGINT)
    printed, complaint = begun.communicate()
    assert begun.returncode == 130
    assert "the same command goes on with it:\n    cifartui lr-find demo --thorough" in complaint
    assert [line["type"] for line in lines_of(printed)] == ["plan"]
    before = {run.id: run.read_state().phase for run in list_runs(runs_dir)}
    assert before.pop(under_way.id) == "stopped"
    assert list(before.values()) == ["completed"]

    result = cifartui(*thorough, "--output", "json")
    assert result.returncode == 0, result.stderr
    plan, *trials, told = lines_of(result.stdout)
    assert [line["type"] for line in (plan, told)] == ["plan", "found"]
    assert plan["rates"] == [0.001, 0.002, 0.004]
    assert [trial["lr"] for trial in trials[:3]] == plan["rates"]
    assert told["lr"] is None or told["command"].endswith(f"--set optimizer.lr={told['lr']}")
    runs = {run.id: run for run in list_runs(runs_dir)}
    assert {trial["run"] for trial in trials} == set(runs) - set(before)  # but for the one that measured the time
    assert len(trials) == len(runs) - 1
    for run in runs.values():
        info, state = run.read_info(), run.read_state()
        assert (info.group, state.phase) == (plan["group"], "completed")
        assert state.finished is not None
        assert state.finished.test_top1 is None
        assert list(run.checkpoints.iterdir()) == []
    resumed = [event for event in read_events(under_way.events) if isinstance(event, ev.RunStarted)]
    assert len(resumed) == 2
    assert resumed[1].global_step > 0

    again = cifartui(*thorough)
    assert set(runs) == {run.id for run in list_runs(runs_dir)}
    assert told["reason"] in " ".join(again.stdout.split())
    assert f"(group {plan['group']})" in again.stdout
    assert all(f"{trial['lr']:.4g} " in again.stdout for trial in trials)
    assert "• " in again.stdout  # the curve
    deleted = cifartui("delete", plan["group"], "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert list_runs(runs_dir) == []


def test_a_smallest_rate_that_diverges_is_refused_in_a_sentence(cifartui: Call, thorough: tuple[str, ...]) -> None:
    result = cifartui(*thorough, "--from", "1e5", "--to", "4e5", "--output", "json")
    assert "A run at the smallest rate, 100000, diverged; give a smaller one with --from." in one_sentence(result)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--thorough", "--steps", "300"), "with --thorough give a --budget"),
        (("--thorough", "--detach"), "cannot go on detached"),
        (("--thorough", "--budget", "soon"), "--budget cannot be 'soon'; write a time such as 20m, 1.5h or 1h30m."),
        (("--thorough", "--budget", "20m tomorrow"), "--budget cannot be"),
        (("--thorough", "--budget", "1s"), "--budget is from 30s to 720h, not 1s."),
        (("--thorough", "--budget", "9999h"), "--budget is from 30s to 720h"),
        (("--thorough", "--from", "1", "--to", "0.1"), "not from 1 to 0.1"),
        (("--thorough", "--set", 'schedule={name="range-test", first_lr=1e-5}'), "This preset is a range test"),
        (("--budget", "10m"), "add --thorough"),
    ],
)
def test_what_makes_no_search_is_refused_in_a_sentence(
    cifartui: Call, runs_dir: Path, options: tuple[str, ...], part: str
) -> None:
    assert part in one_sentence(cifartui("lr-find", "demo", *options))
    assert not runs_dir.exists()


def test_a_budget_is_hours_minutes_and_seconds() -> None:
    assert [parse_budget(text) for text in ("20m", "1.5h", "1h30m", "1h 30 min", "45s", " 2m ")] == [
        1200, 5400, 5400, 5400, 45, 120,
    ]  # fmt: skip
