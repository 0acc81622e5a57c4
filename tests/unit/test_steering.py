"""Validate and ScaleLearningRate in the loop: what they tell, and that neither they nor an interruption show."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from engine.journal import commands, events
from engine.journal.jsonl import append_command, read_events
from engine.journal.state import fold
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.controls import Aborted
from engine.training.trainer import Trainer
from presets import schema
from tests.tiny_trainer import PRESET, make
from tests.waiting import wait_for

VGG = msgspec.structs.replace(PRESET, model=schema.Vgg(blocks=((4,),), pools=("avg",)))
SCHEDULES = (
    schema.Constant(), schema.Step(every=1, factor=0.5), schema.Plateau(patience=0), schema.Cosine(warmup_epochs=1),
    schema.OneCycle(),
)  # fmt: skip


def told(folder: RunDir, kind: type[events.Event]) -> list[Any]:
    return [event for event in read_events(folder.events) if isinstance(event, kind)]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer._setup.network.state_dict().items()}


def are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def before_step(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, do: Callable[[int], None]) -> None:
    """Call `do` with the number of the step before it is trained; let every batch look for commands."""
    train_batch = trainer._train_batch

    def batch(*args: Any) -> None:
        do(trainer.progress.global_step)
        train_batch(*args)

    monkeypatch.setattr(trainer, "_train_batch", batch)
    monkeypatch.setattr("engine.training.controls._POLL_INTERVAL_S", 0.0)


def asking(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, wishes: dict[int, list[commands.AnyCommand]], ends_at: int = -1
) -> None:
    def ask(step: int) -> None:
        if step == ends_at:
            raise Aborted
        for command in wishes.get(step, []):
            append_command(trainer._folder.commands, command)

    before_step(trainer, monkeypatch, ask)


def test_a_validation_tells_what_it_found_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = make(tmp_path / "whole", VGG)
    whole.run()
    trainer, folder = make(tmp_path / "asked", VGG)
    asking(trainer, monkeypatch, {4: [commands.Validate()], 14: [commands.Validate()]})
    trainer.run()
    assert are_equal(weights(trainer), weights(whole))  # BatchNorm statistics among them
    first, second = told(folder, events.Validated)
    assert (first.epoch, first.step, first.global_step) == (1, 5, 5)
    assert (second.epoch, second.step, second.global_step) == (2, 5, 15)
    assert 0 < first.loss < 20
    assert [e.accepted for e in told(folder, events.CommandApplied)] == [True, True]
    assert len(fold(read_events(folder.events)).validations) == 2
    ours, theirs = (told(f, events.EpochCompleted) for f in (folder, RunDir(tmp_path / "whole")))
    assert [(e.train_loss, e.val_loss) for e in ours] == [(e.train_loss, e.val_loss) for e in theirs]


def test_a_validation_measures_what_the_epochs_validation_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = make(tmp_path, VGG)
    asking(trainer, monkeypatch, {4: [commands.Validate()], 5: [commands.Stop()]})
    validate = trainer._validator.validate_between_batches
    expected = []

    def measured(progress: Any) -> None:
        expected.append(trainer._evaluate("val"))
        validate(progress)

    monkeypatch.setattr(trainer._validator, "validate_between_batches", measured)
    trainer.run()
    (asked,) = told(folder, events.Validated)
    assert (asked.loss, asked.top1) == (expected[0].mean_loss(), expected[0].top1())


def test_the_seconds_of_a_validation_are_not_the_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path)
    asking(trainer, monkeypatch, {4: [commands.Validate()]})
    clock = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    evaluate = trainer._validator.measure

    def slow(*args: Any) -> Any:
        nonlocal clock
        clock += 0.0 if told(folder, events.Validated) else 50.0  # the one that was asked for comes first
        return evaluate(*args)

    monkeypatch.setattr(trainer._validator, "measure", slow)
    trainer._begin_epoch()
    trainer._train_epoch(trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None))
    trainer._complete_epoch()
    (asked,) = told(folder, events.Validated)
    assert asked.seconds == 50.0
    (done,) = told(folder, events.EpochCompleted)
    assert done.seconds == 0.0


def test_a_stop_ends_a_validation_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path)
    asking(trainer, monkeypatch, {4: [commands.Validate(), commands.Stop()]})
    assert trainer.run().outcome == "stopped"
    assert told(folder, events.Validated) == []
    assert [e.partial for e in told(folder, events.EpochCompleted)] == [True]


def test_a_validation_while_paused_leaves_it_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path)
    asking(trainer, monkeypatch, {4: [commands.Pause()]})
    training = threading.Thread(target=trainer.run, daemon=True)
    training.start()
    wait_for(lambda: told(folder, events.Paused), "the pause", 20)
    append_command(folder.commands, commands.Validate())
    append_command(folder.commands, commands.ScaleLearningRate(factor=0.5))
    wait_for(lambda: len(told(folder, events.CommandApplied)) == 3, "the answers", 20)
    wait_for(lambda: len(told(folder, events.Paused)) == 3, "the pause said again behind each of them", 20)
    state = fold(read_events(folder.events))
    assert state.phase == "paused"
    assert [each.global_step for each in state.validations] == [5]
    append_command(folder.commands, commands.Continue())
    training.join(timeout=60)
    assert not training.is_alive()
    assert told(folder, events.EpochCompleted)[-1].lr == pytest.approx(0.005)


def test_a_second_validation_and_one_at_the_end_of_an_epoch_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = make(tmp_path)
    asking(trainer, monkeypatch, {4: [commands.Validate(), commands.Validate()], 9: []})
    complete = trainer._complete_epoch

    def completing() -> None:
        append_command(folder.commands, commands.Validate())
        complete()

    monkeypatch.setattr(trainer, "_complete_epoch", completing)
    trainer.run()
    effects = [event.effect for event in told(folder, events.CommandApplied) if not event.accepted]
    assert "no validation now: the epoch is being validated already" in effects
    assert len(told(folder, events.CommandApplied)) == 4  # none is left without an answer


@pytest.mark.parametrize("table", SCHEDULES, ids=lambda table: type(table).__name__)
def test_a_scaled_rate_stays_scaled_and_an_interruption_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: schema.Schedule
) -> None:
    train = msgspec.structs.replace(PRESET.train, epochs=3)
    preset = msgspec.structs.replace(PRESET, schedule=table, train=train)
    plain, plain_folder = make(tmp_path / "plain", preset)
    plain.run()
    wishes: dict[int, list[commands.AnyCommand]] = {4: [commands.ScaleLearningRate(factor=0.5)]}
    whole, whole_folder = make(tmp_path / "whole", preset)
    asking(whole, monkeypatch, wishes)
    whole.run()
    rates = [[e.lr for e in told(f, events.EpochCompleted)] for f in (plain_folder, whole_folder)]
    if not isinstance(table, schema.Plateau):  # which goes by accuracies, that a rate changes
        assert rates[1] == pytest.approx([rate / 2 for rate in rates[0]])

    first, folder = make(tmp_path / "cut", preset)
    asking(first, monkeypatch, wishes, ends_at=7)
    with pytest.raises(Aborted):
        first.run()
    second, _ = make(tmp_path / "cut", preset)
    second._controls._commands.skip_to(folder.commands.stat().st_size)
    second.restore(checkpoint_files.load(folder.last))  # the wish itself has saved it
    assert second.progress.global_step == 5
    second.run()
    assert are_equal(weights(second), weights(whole))


def test_the_effect_says_both_rates_and_a_stage_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (schema.Stage(name="a", epochs=1), schema.Stage(name="b", epochs=1))
    train = msgspec.structs.replace(PRESET.train, epochs=None, augment=())
    trainer, folder = make(tmp_path, msgspec.structs.replace(PRESET, train=train, stages=stages))
    asking(trainer, monkeypatch, {step: [commands.ScaleLearningRate(factor=0.5)] for step in (4, 14)})
    trainer.run()
    effects = [event.effect for event in told(folder, events.CommandApplied)]
    assert effects == ["lr 0.01 → 0.005 until this stage ends", "lr 0.01 → 0.005"]
    assert [mark.global_step for mark in fold(read_events(folder.events)).marks] == [5, 15]


# --- going on with other numbers -------------------------------------------------------------------


def longer(preset: schema.Preset, epochs: int, **changes: Any) -> schema.Preset:
    return msgspec.structs.replace(preset, train=msgspec.structs.replace(preset.train, epochs=epochs), **changes)


def resumed(tmp_path: Path, preset: schema.Preset) -> Trainer:
    trainer, folder = make(tmp_path, preset)
    trainer.restore(checkpoint_files.load(folder.last))
    return trainer


@pytest.mark.parametrize("table", SCHEDULES[:3], ids=lambda table: type(table).__name__)
def test_a_completed_run_trained_on_is_the_longer_run_to_the_bit(tmp_path: Path, table: schema.Schedule) -> None:
    preset = msgspec.structs.replace(PRESET, schedule=table)
    whole, _ = make(tmp_path / "whole", longer(preset, 3))
    whole.run()
    make(tmp_path / "short", preset)[0].run()
    second = resumed(tmp_path / "short", longer(preset, 3))
    assert second.run().reason == "all 3 epochs are trained"
    assert are_equal(weights(second), weights(whole))


@pytest.mark.parametrize("table", [schema.Cosine(), schema.OneCycle()], ids=lambda table: type(table).__name__)
def test_a_schedule_that_spans_the_run_goes_by_the_new_total(tmp_path: Path, table: schema.Schedule) -> None:
    preset = msgspec.structs.replace(PRESET, schedule=table)
    _, whole = make(tmp_path / "whole", longer(preset, 4))
    make(tmp_path / "whole", longer(preset, 4))[0].run()
    _, folder = make(tmp_path / "short", preset)
    make(tmp_path / "short", preset)[0].run()
    resumed(tmp_path / "short", longer(preset, 4)).run()
    rates = [[event.lr for event in told(each, events.EpochCompleted)] for each in (whole, folder)]
    assert rates[1][2:] == pytest.approx(rates[0][2:])


CHANGES = [
    # before, after, the rate at the beginning of the third epoch
    (schema.Constant(), {"optimizer": schema.Sgd(lr=0.2)}, 0.2),
    (schema.Step(every=1, factor=0.1), {"optimizer": schema.Sgd(lr=0.2)}, 0.002),
    (schema.Constant(), {"schedule": schema.Step(every=1, factor=0.5)}, 0.0025),
    (schema.Step(every=1, factor=0.1), {"schedule": schema.Constant()}, 0.01),
    (schema.Plateau(patience=0), {"optimizer": schema.AdamW(lr=0.2)}, 0.2),
    (schema.OneCycle(), {"schedule": schema.Constant()}, 0.01),
]


@pytest.mark.parametrize(("before", "changes", "lr"), CHANGES)
def test_a_changed_table_holds_from_here_on(
    tmp_path: Path, before: schema.Schedule, changes: dict[str, Any], lr: float
) -> None:
    preset = msgspec.structs.replace(PRESET, schedule=before)
    make(tmp_path, preset)[0].run()
    second = resumed(tmp_path, longer(preset, 3, **changes))
    assert second._train_state.stage_optimizer.lr == pytest.approx(lr)
    momentum = second._train_state.stage_optimizer.optimizer.param_groups[0].get("momentum")
    asked = changes.get("optimizer", PRESET.optimizer)
    assert momentum == getattr(asked, "momentum", None)  # not what one-cycle made of it
    assert second.run().outcome == "completed"


def test_momentum_stays_where_only_numbers_change(tmp_path: Path) -> None:
    first, _ = make(tmp_path, PRESET)
    first.run()
    second = resumed(tmp_path, longer(PRESET, 3, optimizer=schema.Sgd(lr=0.2, momentum=0.9, weight_decay=0.1)))
    ours, theirs = (each._train_state.stage_optimizer.optimizer.state_dict()["state"] for each in (second, first))
    assert torch.equal(ours[0]["momentum_buffer"], theirs[0]["momentum_buffer"])
    assert second._train_state.stage_optimizer.optimizer.param_groups[0]["weight_decay"] == 0.1


def test_a_plateau_keeps_its_rate_and_its_patience_unless_the_rate_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = longer(PRESET, 3, schedule=schema.Plateau(patience=1, factor=0.1))
    first, _ = make(tmp_path, preset)
    first._train_state.stage_optimizer.epoch_done(0.9)
    for _ in range(3):  # one beyond patience, and one more
        first._train_state.stage_optimizer.epoch_done(0.1)
    first._save_last()
    first._checkpoints.drain()
    assert first._train_state.stage_optimizer.lr == pytest.approx(0.001)
    decay = schema.Sgd(lr=0.01, momentum=0.9, weight_decay=0.1)
    kept = resumed(tmp_path, msgspec.structs.replace(preset, optimizer=decay))
    assert kept._train_state.stage_optimizer.lr == pytest.approx(0.001)
    kept._train_state.stage_optimizer.epoch_done(0.1)
    assert kept._train_state.stage_optimizer.lr == pytest.approx(0.0001)
    stated = resumed(tmp_path, msgspec.structs.replace(preset, optimizer=schema.Sgd(lr=0.05, momentum=0.9)))
    stated._train_state.stage_optimizer.epoch_done(0.1)
    assert stated._train_state.stage_optimizer.lr == pytest.approx(0.05)
    stated._train_state.stage_optimizer.epoch_done(0.1)
    assert stated._train_state.stage_optimizer.lr == pytest.approx(0.005)


def test_a_scaled_rate_outlives_a_changed_schedule_but_not_a_stated_rate(tmp_path: Path) -> None:
    first, _ = make(tmp_path, PRESET)
    first._scale_lr_on_command(0.5)
    assert resumed(
        tmp_path, longer(PRESET, 2, schedule=schema.Cosine())
    )._train_state.stage_optimizer.lr == pytest.approx(0.005)
    assert resumed(tmp_path, longer(PRESET, 2, optimizer=schema.Sgd(lr=0.2)))._train_state.stage_optimizer.lr == 0.2
