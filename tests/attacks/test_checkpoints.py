"""Checkpoints whose numbers, shapes or best weights cannot be: found out when a run is resumed, in a sentence."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from engine.journal.events import Alerted
from engine.journal.jsonl import EventWriter, read_events
from engine.runs import run_dir, start
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files, evaluate_checkpoint
from engine.training.alerts import LearningWatch
from engine.training.controls import Controls
from engine.training.parallel import Parallel
from engine.training.train_state import check_state
from engine.training.trainer import Trainer
from presets import catalog, schema
from presets.errors import CifartuiError
from tests.tiny_trainer import PRESET, make, make_setup
from tests.waiting import wait_for
from tui import format as fmt
from tui.text import run_text

NAN, INF = float("nan"), float("inf")
STEPS_PER_EPOCH, BATCH_SIZE = 10, 8
State = dict[str, Any]
SMALL = ("data.train_limit=320", "train.batch_size=32", "train.epochs=2")
TRAIN = replace(PRESET.train, precision="fp32")
ADAMW = replace(PRESET, optimizer=schema.AdamW(lr=0.001))
COSINE = replace(PRESET, schedule=schema.Cosine())
PLATEAU = replace(PRESET, schedule=schema.Plateau())
AVERAGED = replace(PRESET, train=replace(TRAIN, ema_decay=0.9))
PRESETS = {"sgd": PRESET, "adamw": ADAMW, "cosine": COSINE, "plateau": PLATEAU, "averaged": AVERAGED}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, State]]:
    """Folders of runs that are trained, and their last.pt, by the preset's name."""
    found = {}
    for name, preset in PRESETS.items():
        trainer, run = make(tmp_path_factory.mktemp(name), preset)
        trainer.run()
        found[name] = run.path, checkpoint_files.load(run.last)
    return found


def put(state: State, value: Any, *keys: Any) -> None:
    """Set what lies in a state under these keys; a function is called with what lay there."""
    for key in keys[:-1]:
        state = state[key]
    state[keys[-1]] = value(state[keys[-1]]) if callable(value) else value


def _progress(value: Any, name: str) -> Callable[[State], None]:
    return lambda state: put(state, value, "progress", name)


def _group(value: Any, name: str) -> Callable[[State], None]:
    return lambda state: put(state, value, "optimizer", "param_groups", 0, name)


def _kept(value: Any, name: str) -> Callable[[State], None]:
    return lambda state: put(state, value, "optimizer", "state", 0, name)


def _of(value: Any, *keys: Any) -> Callable[[State], None]:
    return lambda state: put(state, value, *keys)


def _last_weights(value: Any) -> Callable[[State], None]:
    return lambda state: put(state, value, "network", "9.weight")


FAULTS: dict[str, tuple[str, Callable[[State], None], str]] = {
    "stage 99": ("sgd", _progress(99, "stage"), "its stage is 99, where the run has 1 stage"),
    "stage -1": ("sgd", _progress(-1, "stage"), "its stage is -1"),
    "first epoch": ("sgd", _progress(2, "stage_first_epoch"), "its first epoch of the stage is 2, where 0 epochs"),
    "epoch 10^12": ("sgd", _progress(10**12, "epoch"), "its epoch is 1000000000000, where the stage has 2 epochs"),
    "epoch 0": ("sgd", _progress(0, "epoch"), "its epoch is 0"),
    "step -3": ("sgd", _progress(-3, "step"), "its step is -3"),
    "global step -1": ("sgd", _progress(-1, "global_step"), "its global step is -1"),
    "global step 2^62": ("sgd", _progress(2**62, "global_step"), "its global step is"),
    "no images at once": ("sgd", _progress(0, "at_once"), "its images at once is 0, where a batch has 8"),
    "many images at once": ("sgd", _progress(10**9, "at_once"), "its images at once is 1000000000"),
    "best 700 %": ("sgd", _progress(7.0, "best_val_top1"), "its best accuracy is 7, where accuracies are"),
    "balanced 700 %": ("sgd", _progress(7.0, "best_val_balanced"), "its best balanced accuracy is 7, where accuracies"),
    "best of the stage": ("sgd", _progress(-0.1, "stage_best_val_top1"), "its best of the stage accuracy is -0.1"),
    "best epoch": ("sgd", _progress(9, "best_epoch"), "its best epoch is 9"),
    "best without epoch": ("sgd", _progress(None, "best_epoch"), "has no epoch"),
    "loss": ("sgd", _progress([INF, 0, 0], "epoch_sums"), "sum of losses is no number"),
    "images": ("sgd", _progress([0.0, 0, 10**9], "epoch_sums"), "its number of images is 1000000000"),
    "hits": ("sgd", _progress([0.0, 1, 0], "epoch_sums"), "its number of right answers is 1"),
    "seconds": ("sgd", _progress(-1.0, "epoch_seconds"), "its seconds of the epoch is -1"),
    "endless seconds": ("sgd", _progress(INF, "trained_seconds"), "its seconds of the epochs before is inf"),
    "a text": ("sgd", _progress("x", "epoch"), "does not say where training is"),
    "no progress": ("sgd", lambda state: state.pop("progress"), "does not say where training is"),
    "factor 0": ("sgd", _of(0.0, "lr_scale"), "its factor of learning rates is 0"),
    "factor inf": ("sgd", _of(INF, "lr_scale"), "its factor of learning rates is inf"),
    "factor text": ("sgd", _of("x", "lr_scale"), "its factor of learning rates is no number"),
    "lr": ("sgd", _group(-0.1, "lr"), "its optimizer's lr is -0.1"),
    "endless lr": ("sgd", _group(INF, "lr"), "its optimizer's lr is inf"),
    "momentum": ("sgd", _group(2.0, "momentum"), "its optimizer's momentum is 2"),
    "betas": ("adamw", _group((0.9, 1.5), "betas"), "its optimizer's betas is 1.5"),
    "one beta": ("adamw", _group([0.9], "betas"), "betas are not two numbers"),
    "no rate": ("sgd", _group("x", "lr"), "its optimizer's lr is no number"),
    "fewer parameters": ("sgd", _group([0, 1], "params"), "moves other parameters"),
    "no groups": ("sgd", _of([], "optimizer", "param_groups"), "moves other parameters"),
    "a group that is none": ("sgd", _of([1], "optimizer", "param_groups"), "moves other parameters"),
    "no optimizer": ("sgd", _of([], "optimizer"), "no state of the optimizer"),
    "of no parameter": ("sgd", lambda s: put(s, {}, "optimizer", "state", 99), "of a parameter that there is not"),
    "momentum's shape": ("sgd", _kept(lambda t: t[:1], "momentum_buffer"), "momentum_buffer have another shape"),
    "momentum's length": ("sgd", _kept(torch.zeros(1), "momentum_buffer"), "momentum_buffer have another shape"),
    "momentum in whole": ("sgd", _kept(lambda t: t.long(), "momentum_buffer"), "momentum_buffer have another shape"),
    "momentum complex": ("sgd", _kept(lambda t: t + 0j, "momentum_buffer"), "damaged or not|another shape"),
    "momentum NaN": ("sgd", _kept(lambda t: t * NAN, "momentum_buffer"), "no usable numbers"),
    "momentum text": ("sgd", _kept("x", "momentum_buffer"), "momentum_buffer have another shape"),
    "of another optimizer": ("sgd", _kept(torch.tensor(1.0), "exp_avg"), "keeps what another one does"),
    "half of Adam": ("adamw", lambda s: s["optimizer"]["state"][0].pop("exp_avg"), "keeps what another one does"),
    "Adam's shape": ("adamw", _kept(lambda t: t.flatten(), "exp_avg_sq"), "exp_avg_sq have another shape"),
    "Adam's squares": ("adamw", _kept(lambda t: t - 1, "exp_avg_sq"), "no usable numbers"),
    "Adam's step": ("adamw", _kept(torch.tensor(-1.0), "step"), "its optimizer's step is -1"),
    "Adam's steps": ("adamw", _kept(torch.zeros(2), "step"), "its optimizer's step is no number"),
    "weights NaN": ("sgd", _last_weights(lambda t: t * NAN), "9.weight hold values that are no usable numbers"),
    "weights inf": ("sgd", _last_weights(lambda t: t + INF), "9.weight hold values that are no usable numbers"),
    "weights' shape": ("sgd", _last_weights(lambda t: t.T.contiguous()), "9.weight have another shape"),
    "weights in whole": ("sgd", _last_weights(lambda t: t.long()), "9.weight have another shape or number format"),
    "weights of another": ("sgd", lambda s: s["network"].pop("0.bias"), "are those of another network"),
    "no weights": ("sgd", lambda s: s.pop("network"), "no weights|no 'network'"),
    "no record": ("sgd", _of(1, "data"), "its record of the data cannot be read"),
    "two classes of one name": (
        "sgd", lambda s: put(s, lambda names: [*names[:-1], names[0]], "data", "class_names"), "classes have one name"
    ),
    "images below 0": ("sgd", lambda s: put(s, -1, "data", "splits", "train", "num_images"), "its record of the data"),
    "nothing to train on": ("sgd", lambda s: s["data"]["splits"].pop("train"), "no training images"),
    "average NaN": ("averaged", lambda s: put(s, lambda t: t * NAN, "ema", "9.weight"), "no usable numbers"),
    "average's shape": ("averaged", lambda s: put(s, torch.zeros(1), "ema", "9.weight"), "have another shape"),
}  # fmt: skip
SCHEDULES: dict[str, tuple[str, Callable[[State], None], str]] = {
    "last step": ("cosine", _of(10**9, "schedule", "last_epoch"), "last_epoch is 1000000000, where it ends at 20"),
    "step -5": ("cosine", _of(-5, "schedule", "last_epoch"), "schedule's last_epoch is -5"),
    "step 1.5": ("cosine", _of(1.5, "schedule", "last_epoch"), "last_epoch is no whole number"),
    "rates": ("cosine", _of([1.0, 2.0], "schedule", "base_lrs"), "not one for each group"),
    "endless rate": ("cosine", _of([INF], "schedule", "base_lrs"), "schedule's base_lrs is inf"),
    "rate text": ("cosine", _of(["x"], "schedule", "base_lrs"), "schedule's base_lrs is no number"),
    "patience": ("plateau", _of(-1, "schedule", "num_bad_epochs"), "num_bad_epochs is -1"),
    "best": ("plateau", _of(7.0, "schedule", "best"), "schedule's best accuracy is 7"),
    "no schedule": ("cosine", _of(5, "schedule"), "no state of the schedule"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_is_a_sentence_before_the_data_is_read_and_when_it_is(
    trained: dict[str, tuple[Path, State]], tmp_path: Path, fault: str
) -> None:
    name, spoil, said = FAULTS[fault]
    state = copy.deepcopy(trained[name][1])
    check_state(state, PRESETS[name])
    spoil(state)
    with pytest.raises(CifartuiError, match=said) as early:
        check_state(state, PRESETS[name])
    assert str(early.value).isprintable()
    trainer, _ = make(tmp_path, PRESETS[name])
    with pytest.raises(CifartuiError, match=said):
        trainer.restore(state)


@pytest.mark.parametrize("fault", SCHEDULES)
def test_a_schedule_that_cannot_be_is_a_sentence(
    trained: dict[str, tuple[Path, State]], tmp_path: Path, fault: str
) -> None:
    name, spoil, said = SCHEDULES[fault]
    state = copy.deepcopy(trained[name][1])
    spoil(state)
    trainer, _ = make(tmp_path, PRESETS[name])
    with pytest.raises(CifartuiError, match=said):
        trainer.restore(state)


def test_a_step_beyond_the_epoch_is_a_sentence_once_the_data_is_read(
    trained: dict[str, tuple[Path, State]], tmp_path: Path
) -> None:
    state = copy.deepcopy(trained["sgd"][1])
    put(state, STEPS_PER_EPOCH + 1, "progress", "step")
    trainer, _ = make(tmp_path)
    with pytest.raises(CifartuiError, match="its step is 11, where no epoch has more"):
        trainer.restore(state)


@pytest.mark.parametrize(
    ("scaler", "said"),
    [
        ({"scale": 0.0, "_growth_tracker": 0}, "its gradient scale is 0"),
        ({"scale": INF, "_growth_tracker": 0}, "its gradient scale is inf"),
        ({"scale": 1.0, "_growth_tracker": -1}, "its scaler's count is -1"),
        ({"scale": 1.0, "_growth_tracker": "x"}, "no whole number"),
        ({}, "no state of the gradient scaler"),
    ],
)
def test_a_gradient_scaler_that_cannot_be_is_refused(scaler: State, said: str) -> None:
    from engine.training.checkpoint_checks import scaler_state

    fresh = torch.amp.GradScaler("cpu").state_dict()
    with pytest.raises(ValueError, match=said):
        scaler_state(scaler, fresh)
    kept = scaler_state({"scale": 8.0, "_growth_tracker": 3, "growth_factor": NAN}, fresh)
    assert kept == {**fresh, "scale": 8.0, "_growth_tracker": 3}


def test_what_the_preset_says_is_not_taken_from_a_checkpoint(
    trained: dict[str, tuple[Path, State]], tmp_path: Path
) -> None:
    state = copy.deepcopy(trained["cosine"][1])
    wrong = {"maximize": True, "weight_decay": 9.0, "nesterov": True, "fused": None, "x": 1}
    state["optimizer"]["param_groups"][0].update(wrong)
    state["schedule"].update(step=5, get_lr=5, lr_lambdas=[5], optimizer=5)
    trainer, _ = make(tmp_path, COSINE)
    expected = dict(trainer._train_state.stage_optimizer.optimizer.param_groups[0])
    trainer.restore(state)
    (group,) = trainer._train_state.stage_optimizer.optimizer.param_groups
    assert {name: group.get(name) for name in wrong} == {name: expected.get(name) for name in wrong}
    trainer._train_state.stage_optimizer._schedule.step_done()


# --- last.prev.pt ------------------------------------------------------------------------------------


def _numbered(state: State, step: int) -> State:
    changed = copy.deepcopy(state)
    put(changed, step, "progress", "global_step")
    return changed


def test_the_one_before_is_taken_where_last_holds_no_usable_numbers(
    trained: dict[str, tuple[Path, State]], tmp_path: Path
) -> None:
    good = trained["sgd"][1]
    bad = _numbered(good, 25)
    put(bad, lambda tensor: tensor * NAN, "network", "9.weight")
    checkpoint_files.save(_numbered(good, 21), tmp_path / "last.prev.pt")
    checkpoint_files.save(bad, tmp_path / "last.pt")
    state, said = checkpoint_files.load_last(tmp_path, lambda found: check_state(found, PRESET))
    assert state["progress"]["global_step"] == 21
    assert "no usable numbers. Going on from last.prev.pt, the one before." in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.damaged", "last.prev.pt"]


def test_where_the_one_before_is_no_better_last_is_told_of_and_left(
    trained: dict[str, tuple[Path, State]], tmp_path: Path
) -> None:
    bad = copy.deepcopy(trained["sgd"][1])
    put(bad, 99, "progress", "stage")
    checkpoint_files.save(bad, tmp_path / "last.pt")
    (tmp_path / "last.prev.pt").write_bytes(b"cut")
    with pytest.raises(CifartuiError, match="its stage is 99"):
        checkpoint_files.load_last(tmp_path, lambda found: check_state(found, PRESET))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.prev.pt", "last.pt"]


def test_a_checkpoint_of_a_newer_version_is_not_put_aside(
    trained: dict[str, tuple[Path, State]], tmp_path: Path
) -> None:
    good = trained["sgd"][1]
    checkpoint_files.save(good, tmp_path / "last.prev.pt")
    checkpoint_files.save({**good, "format": 2}, tmp_path / "last.pt")
    with pytest.raises(CifartuiError, match="another version of cifartui"):
        checkpoint_files.load_last(tmp_path, lambda found: check_state(found, PRESET))
    assert (tmp_path / "last.pt").exists()


# --- best.pt -----------------------------------------------------------------------------------------


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_numbers(path: Path) -> None:
    content = checkpoint_files.load(path)
    put(content, lambda tensor: tensor * NAN, "network", "9.weight")
    checkpoint_files.save(content, path)


def _of_another_network(path: Path) -> None:
    checkpoint_files.save({**checkpoint_files.load(path), "network": {"w": torch.zeros(1)}}, path)


SPOILT: dict[str, Callable[[Path], None]] = {
    "half": _half, "no numbers": _without_numbers, "another network": _of_another_network, "gone": Path.unlink,
}  # fmt: skip


def _stopped_after_one_epoch(tmp_path: Path, preset: schema.Preset = PRESET) -> RunDir:
    """Return a run of which one epoch of two is trained and saved."""
    trainer, run = make(tmp_path, preset)
    with trainer._checkpoints:
        trainer._begin_epoch()
        trainer._train_epoch(trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None))
        trainer._complete_epoch()
    return run


def _resumed(tmp_path: Path, preset: schema.Preset = PRESET) -> tuple[Trainer, RunDir]:
    trainer, run = make(tmp_path, preset)
    trainer.restore(checkpoint_files.load(run.last))
    return trainer, run


def _damage_told(run: RunDir) -> list[str]:
    found = (event for event in read_events(run.events) if isinstance(event, Alerted))
    return [event.text for event in found if event.kind == "damaged-checkpoint"]


@pytest.mark.parametrize("spoilt", SPOILT)
def test_best_weights_that_cannot_be_used_are_found_out_when_a_run_is_resumed(tmp_path: Path, spoilt: str) -> None:
    run = _stopped_after_one_epoch(tmp_path)
    SPOILT[spoilt](run.best)
    trainer, run = _resumed(tmp_path)
    (text,) = _damage_told(run)
    assert "best.pt" in text
    assert "those of the next validation take their place" in text
    assert (run.checkpoints / "best.damaged").exists() == (spoilt != "gone")
    assert trainer.progress.best_val_top1 is None
    finished = trainer.run()
    assert finished.outcome == "completed"
    assert finished.best_epoch == 2
    assert finished.test_top1 is not None


class _OtherRank(Parallel):
    """A rank besides rank 0, which cannot use the best weights."""

    rank, num_ranks = 1, 2

    def agree(self, *values: float) -> Sequence[float]:
        return [0.0 for _ in values]


def test_every_rank_forgets_best_weights_that_rank_0_cannot_use_and_leaves_the_file_to_it(tmp_path: Path) -> None:
    run = _stopped_after_one_epoch(tmp_path)
    _half(run.best)
    journal = EventWriter(tmp_path / "silent.jsonl")
    trainer = Trainer(make_setup(), run, journal, Controls(run, journal), LearningWatch(), _OtherRank())
    trainer.restore(checkpoint_files.load(run.last))
    assert trainer.progress.best_val_top1 is None
    assert run.best.exists()


def test_best_weights_that_can_be_used_are_kept(tmp_path: Path) -> None:
    run = _stopped_after_one_epoch(tmp_path)
    before = run.best.read_bytes()
    trainer, run = _resumed(tmp_path)
    assert _damage_told(run) == []
    assert trainer.progress.best_epoch == 1
    assert run.best.read_bytes() == before


@pytest.mark.parametrize("spoilt", SPOILT)
def test_the_best_weights_of_a_stage_are_looked_at_where_the_next_one_begins_with_them(
    tmp_path: Path, spoilt: str
) -> None:
    stages = (schema.Stage(name="a", epochs=2), schema.Stage(name="b", epochs=1, start_from="best"))
    preset = replace(PRESET, stages=stages)
    run = _stopped_after_one_epoch(tmp_path, preset)
    SPOILT[spoilt](run.checkpoints / "stage-best.pt")
    trainer, run = _resumed(tmp_path, preset)
    (text,) = _damage_told(run)
    assert "stage-best.pt" in text
    assert trainer.run().outcome == "completed"


@pytest.mark.parametrize("spoilt", SPOILT)
def test_where_best_weights_break_while_a_run_trains_the_last_ones_are_tested_and_that_is_said(
    tmp_path: Path, spoilt: str
) -> None:
    run = _stopped_after_one_epoch(tmp_path)
    trainer, run = _resumed(tmp_path)
    trainer.progress.best_val_top1 = 1.0  # so that it is not replaced
    SPOILT[spoilt](run.best)
    finished = trainer.run()
    (text,) = _damage_told(run)
    assert "best.pt" in text
    assert text.endswith("The test accuracy is that of the last weights.")
    assert (finished.outcome, finished.tested) == ("completed", "last")
    assert finished.test_top1 == trainer._evaluate("test").top1()
    test = fmt.accuracy(finished.test_top1, finished.test_balanced)
    assert f"test {test} (last weights)" in run_text.event(finished)[0]


def test_best_weights_lost_after_the_last_epoch_leave_a_test_accuracy_of_the_last_ones(
    trained: dict[str, tuple[Path, State]], tmp_path: Path
) -> None:
    trainer, run = make(tmp_path)
    trainer.restore(copy.deepcopy(trained["sgd"][1]))  # every epoch is trained; there is no best.pt here
    finished = trainer.run()
    assert (finished.outcome, finished.best_epoch, finished.tested) == ("completed", None, "last")
    assert finished.test_top1 is not None
    assert "There is no checkpoint" in _damage_told(run)[-1]


def test_a_stage_that_cannot_begin_with_the_best_weights_says_so(tmp_path: Path) -> None:
    stages = (schema.Stage(name="a", epochs=2), schema.Stage(name="b", epochs=1, start_from="best"))
    preset = replace(PRESET, stages=stages)
    run = _stopped_after_one_epoch(tmp_path, preset)
    trainer, run = _resumed(tmp_path, preset)
    trainer.progress.stage_best_val_top1 = 1.0  # so that it is not replaced
    _half(run.checkpoints / "stage-best.pt")
    assert trainer.run().outcome == "completed"
    assert _damage_told(run)[0].endswith("The stage b begins with the last weights of the stage before.")


# --- whole processes ---------------------------------------------------------------------------------


def _ended(run: RunDir) -> Any:
    return wait_for(lambda: None if run.worker_lives() else run.read_state().finished, "its end")


@pytest.mark.usefixtures("forked")
def test_a_worker_goes_on_from_the_one_before_and_says_so_and_an_evaluation_refuses_what_is_no_number(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = run_dir.create(runs_dir, "demo", preset=catalog.load("demo", SMALL), seed=0, device="cpu")
    start.start_worker(run)
    assert _ended(run).outcome == "completed"
    state = checkpoint_files.load(run.last)
    first = next(iter(state["network"]))
    put(state, lambda tensor: tensor * NAN, "network", first)
    checkpoint_files.save(state, run.last)
    seen = len(read_events(run.events))
    start.start_worker(run, resume=True)
    wait_for(lambda: len(read_events(run.events)) > seen, "the resume")
    finished = _ended(run)
    assert finished.outcome == "completed", finished.reason
    (text,) = _damage_told(run)
    assert "Going on from last.prev.pt" in text
    content = checkpoint_files.load(run.best)
    put(content, lambda tensor: tensor * NAN, "network", first)
    checkpoint_files.save(content, run.best)
    with pytest.raises(CifartuiError, match=r"best\.pt does not fit this run's preset: .* no usable numbers"):
        evaluate_checkpoint.measure(run, "best", "val", "cpu", None)
    checkpoint_files.save({**checkpoint_files.load(run.last), "epoch": -1}, run.best)
    with pytest.raises(CifartuiError, match="its epoch is -1"):
        evaluate_checkpoint.measure(run, "best", "val", "cpu", None)
