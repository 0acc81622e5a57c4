"""What a resume may change, what that comes to, and where it is written down; no worker is really started."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.journal import events
from engine.journal.jsonl import EventWriter
from engine.runs import run_dir
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir
from presets import catalog
from presets.errors import CifartuiError
from presets.plan import plan

STAGES = 'stages=[{ name = "a", epochs = 20 }, { name = "b", epochs = 10 }]'


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of the workers started."""
    arguments: list[list[str]] = []

    class Process:
        pid = 1

        def __init__(self, asked: list[str], **_named: Any) -> None:
            arguments.append(asked)

    monkeypatch.setattr(subprocess, "Popen", Process)
    return arguments


def make(
    tmp_path: Path, *overrides: str, trained: int = 0, outcome: events.Outcome = "completed", stage: int = 0
) -> RunDir:
    preset = catalog.load("basenet", overrides)
    run = run_dir.create(tmp_path, "basenet", preset=preset, seed=0, device="cpu", overrides=overrides)
    journal = EventWriter(run.events)
    planned = plan(preset)
    journal.write(
        events.StageStarted(
            stage=stage, num_stages=len(planned), name="s", first_epoch=1, epochs=planned[stage].epochs,
            steps_per_epoch=10,
        )
    )  # fmt: skip
    for number in range(1, trained + 1):
        journal.write(
            events.EpochCompleted(
                epoch=number, stage=stage, global_step=10 * number, train_loss=1, train_top1=0.1, val_loss=1,
                val_top1=0.1, lr=0.1, seconds=1, is_best=True,
            )
        )  # fmt: skip
    journal.write(events.RunFinished(outcome=outcome, reason="r", epoch=trained, global_step=10 * trained))
    journal.close()
    return run


def changed(arguments: list[str]) -> list[str]:
    return [argument.removeprefix("--change=") for argument in arguments if argument.startswith("--change=")]


def test_a_completed_run_is_refused_with_what_to_do(tmp_path: Path, started: list[list[str]]) -> None:
    run = make(tmp_path, trained=15)
    with pytest.raises(CifartuiError, match=rf"cifartui resume {run.id} --epochs \+5"):
        resume_run(run)
    with pytest.raises(CifartuiError, match="nothing left"):
        resume_run(run, ["optimizer.lr=0.5"])
    assert not started
    assert not run.amended.exists()


def test_a_stopped_run_goes_on_as_it_was(tmp_path: Path, started: list[list[str]]) -> None:
    run = make(tmp_path, trained=3, outcome="stopped")
    resume_run(run)
    assert "--resume" in started[0]
    assert not run.amended.exists()


@pytest.mark.parametrize(("asked", "total"), [("+5", 20), ("18", 18)])
def test_more_epochs(tmp_path: Path, started: list[list[str]], asked: str, total: int) -> None:
    run = make(tmp_path, trained=15)
    before = (run.path / "run.json").read_bytes()
    resume_run(run, [f"train.epochs={asked}"])
    assert run.read_info().preset.train.epochs == total
    assert run.read_info().overrides == (f"train.epochs={total}",)
    assert (run.path / "run.json").read_bytes() == before
    assert run.read_original().preset.train.epochs == 15
    assert run.amended.stat().st_mode & 0o777 == 0o600
    assert changed(started[0]) == [f"train.epochs={total}"]


def test_more_epochs_of_a_worker_that_died_at_once_still_hold(tmp_path: Path, started: list[list[str]]) -> None:
    run = make(tmp_path, trained=15)
    resume_run(run, ["train.epochs=+5"])
    resume_run(run)
    assert changed(started[1]) == []
    assert run.read_info().preset.train.epochs == 20


@pytest.mark.parametrize("asked", ["+5", "20"])
def test_more_epochs_asked_for_again_after_a_refusal_are_not_added_twice(
    tmp_path: Path, started: list[list[str]], asked: str
) -> None:
    """The worker refuses data that has changed; with it accepted, the same command is right."""
    run = make(tmp_path, trained=15)
    resume_run(run, [f"train.epochs={asked}", "optimizer.lr=0.05"])
    journal = EventWriter(run.events)
    journal.write(
        events.RunStarted(
            pid=1, host="h", device="cpu", device_name="c", precision="fp32", num_threads=1, versions={},
            global_step=150, changes=("train.epochs=20", "optimizer.lr=0.05"),
        )
    )  # fmt: skip
    journal.write(events.RunFinished(outcome="failed", reason="The data has changed.", epoch=15, global_step=150))
    journal.close()
    resume_run(run, [f"train.epochs={asked}", "optimizer.lr=0.05", "--accept-changed-data"])
    assert run.read_info().preset.train.epochs == 20
    assert run.read_info().overrides == ("train.epochs=20", "optimizer.lr=0.05")
    assert changed(started[1]) == ["train.epochs=20", "optimizer.lr=0.05", "--accept-changed-data"]
    with pytest.raises(CifartuiError, match="has trained 15 epochs"):
        resume_run(run, ["train.epochs=15"])


def test_epochs_are_those_of_the_last_stage(tmp_path: Path, started: list[list[str]]) -> None:
    run = make(tmp_path, STAGES, "train.epochs_scale=0.5", trained=5, stage=1)
    resume_run(run, ["train.epochs=+3"])
    assert [stage.epochs for stage in plan(run.read_info().preset)] == [10, 8]
    assert changed(started[0]) == ["stages[1].epochs=8"]


def test_other_numbers(tmp_path: Path, started: list[list[str]]) -> None:
    run = make(tmp_path, trained=3, outcome="stopped")
    changes = ["optimizer.lr=0.01", "schedule.name=cosine", "schedule.final_lr=0.001", "loss.label_smoothing=0.1",
               'train.augment=[{ op = "horizontal-flip" }]', "train.precision=bf16",
               "train.cuda_graphs=false", "train.compile=off", "train.tf32=false"]  # fmt: skip
    resume_run(run, changes)
    preset = run.read_info().preset
    assert (preset.optimizer.lr, preset.loss.label_smoothing, preset.train.precision) == (0.01, 0.1, "bf16")
    assert len(preset.train.augment) == 1
    assert changed(started[0]) == changes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.network=vgg", "only train.epochs, .* can"),
        ("data.image_size=64", "cannot change"),
        ("train.batch_size=64", "cannot change"),
        ("stages=[]", "cannot change"),
        ("optimizers.lr=1", "cannot change"),
        ("=1", "cannot change"),
        ("optimizer.lr=-1", "must be a number above 0"),
        ("optimizer.rate=1", "not a key"),
        ("optimizer.lr", "key.path=value"),
        ("train.epochs=3", "has trained 3 epochs"),
        ("train.epochs=many", "total such as 20"),
        ("train.epochs=+99999999", "more than the 100,000"),
        ("optimizer.lr=0.005", "Nothing would change"),
        ("train.epochs=15", "Nothing would change"),
    ],
)
def test_what_cannot_be_changed_is_said_in_a_sentence(
    tmp_path: Path, started: list[list[str]], change: str, said: str
) -> None:
    run = make(tmp_path, trained=3, outcome="stopped")
    with pytest.raises(CifartuiError, match=said) as refused:
        resume_run(run, [change])
    assert "\n" not in str(refused.value)
    assert not started
    assert not run.amended.exists()


def test_a_change_that_no_stage_left_goes_by_is_none(tmp_path: Path, started: list[list[str]]) -> None:
    stages = STAGES.replace("epochs = 10", "epochs = 10, lr = 0.3")
    run = make(tmp_path, stages, trained=3, outcome="stopped", stage=1)
    with pytest.raises(CifartuiError, match="no stage that is left"):
        resume_run(run, ["optimizer.lr=0.1"])


def test_the_lock_is_free_again_after_a_refusal(tmp_path: Path, started: list[list[str]]) -> None:
    run = make(tmp_path, trained=15)
    with pytest.raises(CifartuiError):
        resume_run(run)
    assert run.worker_lives() is False


def test_what_a_resume_says_of_the_data_goes_to_the_worker_and_into_its_journal(
    tmp_path: Path, started: list[list[str]]
) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "moved" / part / name).mkdir(parents=True)
            (tmp_path / "moved" / part / name / "1.png").touch()
    run = make(tmp_path / "runs", "data.dataset=class-folders", "data.path=/gone", trained=2, outcome="stopped")
    resume_run(run, ["--accept-changed-data", f"--data={tmp_path / 'moved'}"])
    (arguments,) = started
    assert "--accept-changed-data" in arguments
    assert f"--data-path={tmp_path / 'moved'}" in arguments
    changes = {argument for argument in arguments if argument.startswith("--change=")}
    assert changes == {"--change=--accept-changed-data", f"--change=--data={tmp_path / 'moved'}"}
    assert not run.amended.exists()  # the worker writes it, if the data is the run's


@pytest.mark.parametrize(
    ("make_data", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: (path / "a").mkdir(parents=True), "has no class folders with images"),
    ],
)
def test_data_that_cannot_be_the_runs_is_refused_before_a_worker_is_started(
    tmp_path: Path, started: list[list[str]], make_data: Callable[[Path], None], said: str
) -> None:
    run = make(tmp_path / "runs", trained=2, outcome="stopped")
    make_data(tmp_path / "other")
    with pytest.raises(CifartuiError, match=said):
        resume_run(run, [f"--data={tmp_path / 'other'}"])
    assert started == []


def test_class_folders_are_no_data_for_a_run_on_cifar100(tmp_path: Path, started: list[list[str]]) -> None:
    for name in ("a", "b"):
        for part in ("train", "test"):
            (tmp_path / "other" / part / name).mkdir(parents=True)
            (tmp_path / "other" / part / name / "1.png").touch()
    run = make(tmp_path / "runs", trained=2, outcome="stopped")
    with pytest.raises(CifartuiError, match=f"other holds class-folders, and run {run.id} was trained on cifar100"):
        resume_run(run, [f"--data={tmp_path / 'other'}"])
    assert started == []
