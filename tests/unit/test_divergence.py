"""A loss or weights that are no longer numbers: noticed at once, never saved, and told with what helps."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.amp import GradScaler

from engine.journal import commands, events
from engine.journal.jsonl import append_command, read_events
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.reports import ReportInterval
from engine.training.trainer import Trainer
from presets import schema
from presets.errors import CifartuiError
from tests.tiny_trainer import PRESET, make

NAN = float("nan")


def after_step(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, number: int, do: Any) -> None:
    """Call `do` once `number` steps are trained."""
    train_batch = trainer._train_batch

    def batch(*args: Any) -> None:
        train_batch(*args)
        if trainer.progress.global_step + 1 == number:
            do()

    monkeypatch.setattr(trainer, "_train_batch", batch)


def break_weights(trainer: Trainer) -> None:
    with torch.no_grad():
        next(iter(trainer._setup.network.parameters())).fill_(NAN)


def told(folder: RunDir, kind: type[events.Event]) -> list[Any]:
    return [event for event in read_events(folder.events) if isinstance(event, kind)]


def saved_weights_are_numbers(folder: RunDir) -> bool:
    files = [path for path in folder.checkpoints.iterdir() if path.suffix == ".pt"]
    contents = [checkpoint_files.load(path)["network"] for path in files]
    return all(bool(torch.isfinite(tensor).all()) for content in contents for tensor in content.values())


def test_it_ends_the_run_with_the_command_that_goes_on_at_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = make(tmp_path)
    monkeypatch.setattr(ReportInterval, "is_due", lambda _self: True)
    after_step(trainer, monkeypatch, 13, lambda: break_weights(trainer))
    with pytest.raises(CifartuiError) as raised:
        trainer.run()
    assert "no longer a number (step 4 of epoch 2)" in str(raised.value)
    assert "the last good checkpoint, of step 10, stays" in str(raised.value)
    assert "cifartui resume r --set optimizer.lr=0.005" in str(raised.value)
    (alert,) = told(folder, events.Alerted)
    assert (alert.kind, alert.severity, alert.changes) == ("non-finite-loss", "error", ("optimizer.lr=0.005",))
    assert checkpoint_files.load(folder.last)["progress"]["global_step"] == 10
    assert saved_weights_are_numbers(folder)


def test_steps_that_were_reported_together_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path)
    monkeypatch.setattr(ReportInterval, "is_due", lambda _self: False)
    after_step(trainer, monkeypatch, 3, lambda: break_weights(trainer))
    with pytest.raises(CifartuiError, match=r"between the steps 1 and 10 of epoch 1\); nothing was saved before"):
        trainer.run()


def test_a_checkpoint_asked_for_is_not_written_and_not_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = make(tmp_path)
    monkeypatch.setattr(ReportInterval, "is_due", lambda _self: False)
    monkeypatch.setattr("engine.training.controls._POLL_INTERVAL_S", 0.0)

    def ask() -> None:
        trainer._checkpoints.drain()  # a newer one would take the place of what waits to be written
        break_weights(trainer)  # behind the loss of this step, which is still a number
        append_command(folder.commands, commands.SaveCheckpoint())

    after_step(trainer, monkeypatch, 12, ask)
    with pytest.raises(CifartuiError, match=r"weights are no longer numbers \(after step 12\)"):
        trainer.run()
    assert told(folder, events.CommandApplied) == []
    assert checkpoint_files.load(folder.last)["progress"]["global_step"] == 10
    assert not (folder.checkpoints / "last.prev.pt").exists()
    assert saved_weights_are_numbers(folder)


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = make(tmp_path)
    after_step(trainer, monkeypatch, 10, lambda: break_weights(trainer))
    with pytest.raises(CifartuiError, match="weights are no longer numbers"):
        trainer.run()
    assert list(folder.checkpoints.iterdir()) == []
    assert told(folder, events.EpochCompleted) == []


SCHEDULES = [(schema.Constant(), 0.0025), (schema.Plateau(patience=0), 0.0025), (schema.OneCycle(), 0.0025)]


@pytest.mark.parametrize(("table", "named"), SCHEDULES, ids=lambda value: type(value).__name__)
def test_the_rate_named_goes_on_at_half_of_what_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: schema.Schedule, named: float
) -> None:
    preset = msgspec.structs.replace(PRESET, schedule=table)
    trainer, folder = make(tmp_path, preset)
    trainer._train_state.stage_optimizer.scale_lr(0.5)
    after_step(trainer, monkeypatch, 13, lambda: break_weights(trainer))
    with pytest.raises(CifartuiError, match=f"--set optimizer.lr={named}"):
        trainer.run()
    slower = msgspec.structs.replace(preset, optimizer=schema.Sgd(lr=named, momentum=0.9))
    held, _ = make(tmp_path, preset)
    held.restore(checkpoint_files.load(folder.last))
    second, _ = make(tmp_path, slower)
    second.restore(checkpoint_files.load(folder.last))
    assert second._train_state.stage_optimizer.lr == pytest.approx(held._train_state.stage_optimizer.lr / 2)


def test_a_stage_with_its_own_rate_is_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = msgspec.structs.replace(PRESET.train, epochs=None, augment=())
    stages = (schema.Stage(name="a", epochs=1, lr=0.3),)
    trainer, folder = make(tmp_path, msgspec.structs.replace(PRESET, train=train, stages=stages))
    after_step(trainer, monkeypatch, 3, lambda: break_weights(trainer))
    with pytest.raises(CifartuiError, match="halve the learning rate at once"):
        trainer.run()
    assert told(folder, events.Alerted)[0].changes == ()


def test_steps_that_a_gradient_scaler_leaves_out_are_no_failure(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path)
    trainer._train_state._scaler = GradScaler("cpu", init_scale=1024.0)
    trainer._train_state.enter_stage(0)
    parameter = next(iter(trainer._setup.network.parameters()))
    parameter.register_hook(lambda gradient: gradient * (math.inf if trainer.progress.global_step < 3 else 1))
    assert trainer.run().outcome == "completed"
    assert trainer._train_state._scaler.get_scale() == 128.0  # three steps left out, each of which halved it
    assert told(folder, events.Alerted) == []
    assert saved_weights_are_numbers(folder)
