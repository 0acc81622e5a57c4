"""Data that changed between a stop and a resume: fractions of epochs stay, best weights are validated again."""

from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from engine.data.sets import record_of
from engine.journal.data_record import DataRecord
from engine.journal.events import BestMeasured, EpochCompleted
from engine.journal.jsonl import EventWriter, read_events
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import data_of
from engine.training.controls import Controls
from engine.training.metrics import Sums
from engine.training.optimizers import Schedule
from engine.training.progress import Progress
from engine.training.setup import Setup
from engine.training.trainer import Trainer
from presets import schema
from tests.every import of_union
from tests.tiny_trainer import PRESET, make, make_setup, random_images

BEFORE, NOW = 80, 120
BATCHES_BEFORE, BATCHES_NOW = 10, 15
EPOCHS = 4
BY_PLACE = of_union(
    schema.Cosine | schema.Linear | schema.OneCycle | schema.Step,
    (schema.Cosine(warmup_epochs=1), schema.Linear(), schema.OneCycle(), schema.Step(every=1, factor=0.5)),
)


def preset_of(schedule: schema.Schedule) -> schema.Preset:
    return replace(PRESET, schedule=schedule, train=replace(PRESET.train, epochs=EPOCHS))


def stopped(path: Path, preset: schema.Preset, batches: int = 0) -> RunDir:
    """Return a run of which one epoch and some batches of the next one are trained and saved."""
    trainer, run = make(path, preset, num_train=BEFORE)
    with trainer._checkpoints:
        trainer._begin_epoch()
        inputs = trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None)
        trainer._train_epoch(inputs)
        trainer._complete_epoch()
        order = torch.arange(BEFORE)
        for number in range(batches):
            trainer._train_batch(inputs, order[8 * number : 8 * (number + 1)])
            trainer.progress.step += 1
            trainer.progress.global_step += 1
        trainer._save_on_command()
    return run


def changed_setup(preset: schema.Preset, num_train: int = NOW) -> Setup:
    """Return a setup with more training images and other validation images."""
    setup = make_setup(preset, num_train=num_train)
    data = with_fields(setup.data, val=random_images(24, 9))
    return with_fields(setup, data=data, data_record=record_of(data))


def resumed(run: RunDir, setup: Setup, num_train: int | None = BEFORE) -> Trainer:
    journal = EventWriter(run.events)
    trainer = Trainer(setup, run, journal, Controls(run, journal))
    trainer.restore(checkpoint_files.load(run.last), num_train)
    return trainer


def lr_at(schedule: schema.Schedule, steps: int, epochs: int) -> float:
    """Return the rate of a schedule over epochs of `BATCHES_NOW` at a place in it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PRESET.optimizer.lr)
    fresh = Schedule(schedule, optimizer, steps_per_epoch=BATCHES_NOW, epochs=EPOCHS)
    fresh.go_to(steps, epochs)
    return float(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("schedule", BY_PLACE, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("batches", [0, 4])
def test_a_schedule_goes_on_at_the_same_fraction_of_the_epochs(
    tmp_path: Path, schedule: schema.Schedule, batches: int
) -> None:
    preset = preset_of(schedule)
    trainer = resumed(stopped(tmp_path, preset, batches), changed_setup(preset))
    step = batches * BATCHES_NOW // BATCHES_BEFORE
    assert (trainer.progress.epoch, trainer.progress.step) == (2, step)
    assert trainer._train_state.stage_optimizer.lr == pytest.approx(lr_at(schedule, BATCHES_NOW + step, 1))
    finished = trainer.run()
    assert (finished.outcome, finished.epoch) == ("completed", EPOCHS)
    assert finished.global_step == BATCHES_BEFORE + batches + (EPOCHS - 1) * BATCHES_NOW - step
    assert trainer._train_state.stage_optimizer.lr <= PRESET.optimizer.lr / 2
    rates = [event.lr for event in read_events(tmp_path / "events.jsonl") if isinstance(event, EpochCompleted)]
    assert min(rates[:-1]) > 0


def test_fewer_images_than_before_do_not_end_in_a_place_that_cannot_be(tmp_path: Path) -> None:
    preset = preset_of(schema.Cosine())
    run = stopped(tmp_path, preset, batches=9)
    trainer = resumed(run, changed_setup(preset, num_train=16))
    assert trainer.progress.step == 1  # 9 of 10 is 1 of 2
    assert trainer.run().outcome == "completed"


def test_best_weights_are_validated_again_and_what_is_better_is_told_by_that(tmp_path: Path) -> None:
    run = stopped(tmp_path, PRESET)
    setup = changed_setup(PRESET)
    trainer = resumed(run, setup)
    (measured,) = (event for event in read_events(run.events) if isinstance(event, BestMeasured))
    probe, _ = make(tmp_path / "probe", PRESET)
    probe._setup.network.load_state_dict(checkpoint_files.load(run.best)["network"])
    by_hand = Trainer(
        replace_network(setup, probe),
        run,
        EventWriter(tmp_path / "x.jsonl"),
        Controls(run, EventWriter(tmp_path / "y")),
    )._evaluate("val")
    assert (measured.epoch, measured.val_top1) == (1, by_hand.top1())
    assert trainer.progress.best_val_top1 == trainer.progress.stage_best_val_top1 == measured.val_top1
    last = checkpoint_files.load(run.last)["network"]
    for key, value in trainer._setup.network.state_dict().items():
        assert torch.equal(value, last[key])  # training goes on with the last weights, not with the best
    state = run.read_state()
    assert state.best is not None
    assert (state.best.number, state.best.val_top1) == (1, measured.val_top1)


def replace_network(setup: Setup, trainer: Trainer) -> Setup:
    return with_fields(setup, network=trainer._setup.network)


def test_accuracies_on_the_images_of_before_are_not_compared_with_those_of_now(tmp_path: Path) -> None:
    run = stopped(tmp_path, PRESET)
    journal = EventWriter(run.events)
    journal.write(_epoch(2, 20, val_top1=0.9))
    journal.write(BestMeasured(epoch=2, global_step=20, val_loss=1, val_top1=0.2))
    journal.write(_epoch(3, 30, val_top1=0.3))
    journal.close()
    state = run.read_state()
    assert state.best is not None
    assert (state.best.number, state.best.val_top1) == (3, 0.3)
    assert [point.val_top1 for point in state.epochs][1:] == [0.9, 0.3]


def _epoch(epoch: int, global_step: int, val_top1: float) -> EpochCompleted:
    return EpochCompleted(
        epoch=epoch, global_step=global_step, train_loss=1, train_top1=0.1, val_loss=1, val_top1=val_top1, lr=0.1,
        seconds=1, is_best=True,
    )  # fmt: skip


def test_a_plateau_compares_with_the_accuracy_measured_again(tmp_path: Path) -> None:
    preset = preset_of(schema.Plateau(patience=3))
    trainer = resumed(stopped(tmp_path, preset), changed_setup(preset))
    plateau: Any = trainer._train_state.stage_optimizer._schedule._by_accuracy
    assert plateau.best == trainer.progress.stage_best_val_top1
    assert trainer._train_state.stage_optimizer.lr == PRESET.optimizer.lr


def test_data_that_was_accepted_is_that_of_the_run_from_then_on(tmp_path: Path) -> None:
    run = stopped(tmp_path, PRESET)
    setup = changed_setup(PRESET)
    assert _recorded(run) != setup.data_record
    resumed(run, setup)
    assert _recorded(run) == setup.data_record
    assert resumed(run, setup, num_train=None).run().outcome == "completed"


def _recorded(run: RunDir) -> DataRecord | None:
    return data_of(checkpoint_files.load(run.last))


def test_both_checkpoints_hold_classes_and_record(tmp_path: Path) -> None:
    trainer, run = make(tmp_path)
    trainer.run()
    for path in (run.last, run.best):
        content = checkpoint_files.load(path)
        assert content["class_names"] == list(trainer._setup.data.class_names)
        assert data_of(content) == trainer._setup.data_record


def test_best_weights_that_are_gone_too_are_forgotten(tmp_path: Path) -> None:
    run = stopped(tmp_path, PRESET)
    run.best.unlink()
    trainer = resumed(run, changed_setup(PRESET))
    assert trainer.progress.best_val_top1 is None
    assert trainer.run().outcome == "completed"


@pytest.mark.parametrize(("step", "num_steps", "before", "now"), [(4, 15, 10, 6), (10, 15, 10, 15), (9, 2, 10, 1)])
def test_the_sums_of_an_epoch_keep_their_means(step: int, num_steps: int, before: int, now: int) -> None:
    progress = Progress(step=step, epoch_sums=Sums(2.0 * 8 * step, 4 * step, 8 * step))
    progress.scale_epoch(num_steps, before, 8)
    assert progress.step == now
    assert progress.epoch_sums == Sums(2.0 * 8 * now, 4 * now, 8 * now)
