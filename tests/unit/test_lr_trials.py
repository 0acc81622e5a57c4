"""Short runs of a search among the runs: found by settings, and measured by their journals."""

from pathlib import Path

import pytest

from engine.journal import events as ev
from engine.runs.lr_search import Cost
from engine.runs.lr_trials import TrialRuns, cost_of, search_group, trial_of
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.runs.start import start_run
from presets.errors import CifartuiError
from presets.short_run import Length
from tests.ui.sample_run import SampleRun

LENGTH = Length(2, 45_000)


def sample(runs_dir: Path, **fields: object) -> SampleRun:
    """A run whose data is there, and which is about to train."""
    return SampleRun(runs_dir, "demo-00aa", **fields).begin().prepare()  # type: ignore[arg-type]


def test_a_run_that_completed_has_accuracy_loss_and_seconds(tmp_path: Path) -> None:
    with sample(tmp_path) as run:
        for epoch in (1, 2):
            run.train_epoch(epoch)
        run.finish("completed")
        state = run.folder.read_state()
        trial = trial_of(run.folder, 0.1, LENGTH)
    assert trial is not None
    assert state.best is not None
    assert (trial.lr, trial.length, trial.run) == (0.1, LENGTH, run.folder.id)
    assert (trial.accuracy, trial.loss) == (state.best.val_top1, state.best.val_loss)
    assert trial.seconds > sum(point.seconds for point in state.epochs)
    cost = cost_of(state)
    assert cost is not None
    assert trial.cost == cost
    num_images = sum(state.steps.num_images)
    spent = cost.start_s + num_images * cost.image_s + len(state.epochs) * cost.validation_s
    assert spent == pytest.approx(trial.seconds)


def test_the_preparation_of_data_is_not_counted_before_it_is_in_the_cache(tmp_path: Path) -> None:
    with sample(tmp_path) as run:
        run.train_epoch(1)
        run.finish("completed")
        state = run.folder.read_state()
    assert state.data is not None
    every, first = cost_of(state), cost_of(state, is_first=True)
    assert every is not None
    assert first is not None
    assert first == Cost(max(0.0, every.start_s - state.data.seconds), every.image_s, every.validation_s)


def failed(run: SampleRun, kind: str) -> None:
    run.write(ev.Alerted(severity="error", kind=kind, text="The training loss is no longer a number."), 0.1)
    run.write(ev.RunFinished(outcome="failed", reason="it is no number", epoch=1, global_step=9), 0.1)
    run.die()


@pytest.mark.parametrize(("kind", "is_over"), [("non-finite-loss", True), ("disk-full", False)])
def test_a_run_that_failed_counts_as_the_worst_only_if_its_loss_was_no_number(
    tmp_path: Path, kind: str, *, is_over: bool
) -> None:
    with sample(tmp_path) as run:
        failed(run, kind)
        trial = trial_of(run.folder, 0.1, LENGTH)
    assert (trial is not None) == is_over
    if trial is not None:
        assert (trial.accuracy, trial.cost) == (None, None)


@pytest.mark.parametrize(("last_loss", "is_over"), [(90.0, True), (4.0, False)])
def test_a_run_that_was_aborted_counts_only_if_its_loss_had_grown(
    tmp_path: Path, last_loss: float, *, is_over: bool
) -> None:
    with sample(tmp_path) as run:
        for step in range(1, 21):
            loss = 4.6 if step < 15 else last_loss
            run.write(
                ev.StepsTrained(
                    epoch=1, step=step, global_step=step, num_steps=1, num_images=32, loss=loss, top1=0.1, lr=0.1,
                    images_per_s=9.0,
                ),
                0.1,
            )  # fmt: skip
        run.write(ev.RunFinished(outcome="aborted", reason="aborted by command", epoch=1, global_step=20), 0.1)
        run.die()
        assert (trial_of(run.folder, 0.1, LENGTH) is not None) == is_over


def test_a_run_that_is_not_over_counts_for_nothing(tmp_path: Path) -> None:
    with sample(tmp_path) as run:
        run.train_epoch(1)
        assert trial_of(run.folder, 0.1, LENGTH) is None
        run.finish("stopped")
        assert trial_of(run.folder, 0.1, LENGTH) is None


def test_runs_are_found_by_preset_settings_seed_and_device(tmp_path: Path) -> None:
    options = RunOptions(overrides=("loss.label_smoothing=0.1",), device="cpu", seed=3)
    group = search_group("demo", options)
    overrides = ("optimizer.lr=0.02", "train.epochs=1")
    every = (*options.overrides, *overrides)
    mine = start_run(tmp_path, "demo", RunOptions(overrides=every, device="cpu", seed=3, group=group), start=False)
    start_run(tmp_path, "demo", RunOptions(overrides=every, device="cpu", seed=3), start=False)  # of no search
    (tmp_path / f"{mine.id[:15]}-demo-dead").mkdir()
    (tmp_path / f"{mine.id[:15]}-demo-dead" / "run.json").write_text("damaged")
    runs = TrialRuns(tmp_path, "demo", options)
    assert (len(runs), runs.group) == (1, group)
    found = runs.find(overrides)
    assert isinstance(found, RunDir)
    assert found.path == mine.path
    assert runs.find(("optimizer.lr=0.04", "train.epochs=1")) is None
    others = [
        RunOptions(overrides=options.overrides, device="cpu", seed=4),
        RunOptions(overrides=("loss.label_smoothing=0.2",), device="cpu", seed=3),
        RunOptions(overrides=options.overrides, device="cuda", seed=3),
        RunOptions(overrides=options.overrides, device="cpu", seed=3, data_dir="/elsewhere"),
    ]
    assert len({group, *(search_group("demo", each) for each in others), search_group("basenet", options)}) == 6
    with pytest.raises(CifartuiError, match="no preset called"):
        search_group("nonesuch", options)
