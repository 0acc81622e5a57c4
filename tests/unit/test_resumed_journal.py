"""What a resumed worker tells: every step once, and an epoch's sums wherever it was saved."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from engine.journal import commands, events
from engine.journal.jsonl import append_command, read_events
from engine.journal.state import fold
from engine.training import checkpoint_files
from engine.training.controls import Aborted
from engine.training.reports import ReportInterval
from presets import schema
from tests.tiny_trainer import PRESET, make


def interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_at: int, kill_at: int, preset: schema.Preset = PRESET
) -> None:
    """Train, ask for a checkpoint at one step, and be killed at another; reports come every fourth step."""
    trainer, folder = make(tmp_path, preset)
    train_batch = trainer._train_batch
    monkeypatch.setattr("engine.training.controls._POLL_INTERVAL_S", 0.0)
    monkeypatch.setattr(ReportInterval, "is_due", lambda _self: trainer.progress.global_step % 4 == 0)

    def batch(*args: object) -> None:
        if trainer.progress.global_step == kill_at:
            raise Aborted
        if trainer.progress.global_step + 1 == save_at:
            append_command(folder.commands, commands.SaveCheckpoint())
        train_batch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "_train_batch", batch)
    with pytest.raises(Aborted):
        trainer.run()


def test_every_image_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path, monkeypatch, save_at=6, kill_at=9)
    second, folder = make(tmp_path)
    second._controls._commands.skip_to(folder.commands.stat().st_size)
    second.restore(checkpoint_files.load(folder.last))
    assert second.progress.global_step == 6
    second._journal.write(
        events.RunStarted(
            pid=2,
            host="h",
            device="cpu",
            device_name="CPU",
            precision="fp32",
            num_threads=1,
            versions={},
            global_step=6,
        )
    )
    second.run()
    told = read_events(folder.events)
    restart = next(number for number, event in enumerate(told) if isinstance(event, events.RunStarted))
    steps = [event for event in told[:restart] if isinstance(event, events.StepsTrained) and event.global_step <= 6]
    steps += [event for event in told[restart:] if isinstance(event, events.StepsTrained)]
    assert sum(event.num_images for event in steps if event.epoch == 1) == 80
    assert [point.global_step for point in fold(told).epochs] == [10, 20]


def test_a_checkpoint_before_the_first_batch_of_a_resume_keeps_the_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, monkeypatch, save_at=6, kill_at=9)
    second, folder = make(tmp_path)
    before = checkpoint_files.load(folder.last)
    second.restore(before)
    assert (second._controls.epoch, second._controls.global_step) == (1, 6)
    second._save_on_command()  # as while features are computed
    after = checkpoint_files.load(folder.last)
    assert after["progress"]["epoch_sums"] == before["progress"]["epoch_sums"]
    assert after["progress"]["epoch_sums"][2] == 48


def test_a_checkpoint_asked_for_in_a_pause_leaves_the_run_paused(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path)
    trainer._controls.save_checkpoint = trainer._save_on_command
    inputs = trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None)
    trainer._train_batch(inputs, torch.arange(8))
    trainer.progress.step = trainer.progress.global_step = trainer._controls.global_step = 1
    trainer._controls._obey(commands.Pause())
    trainer._controls._obey(commands.SaveCheckpoint())
    stage = events.StageStarted(stage=0, num_stages=1, name="", first_epoch=1, epochs=2, steps_per_epoch=10)
    state = fold([stage, *read_events(folder.events)])
    assert state.phase == "paused"
    assert len(state.steps) == 1


@pytest.mark.parametrize("save_at", [3, 16])
def test_a_recipe_goes_on_in_mid_epoch_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_at: int
) -> None:
    train = replace(PRESET.train, ema_decay=0.9, alternating_flip=True, image_sizes=((0.5, 24),))
    vgg = schema.Vgg(blocks=((4,),), pools=("avg",), head=(8,), dropout=0.3)
    mix = schema.Mix(mixup=0.3, cutmix=1.0, p=0.8)
    preset = replace(PRESET, model=vgg, train=train, mix=mix, optimizer=schema.Muon(), schedule=schema.OneCycle())
    whole, whole_folder = make(tmp_path / "whole", preset)
    whole.run()
    with monkeypatch.context() as patched:
        interrupted(tmp_path / "cut", patched, save_at=save_at, kill_at=save_at + 2, preset=preset)
    second, folder = make(tmp_path / "cut", preset)
    second._controls._commands.skip_to(folder.commands.stat().st_size)
    second.restore(checkpoint_files.load(folder.last))
    assert second.progress.global_step == save_at
    second.run()
    ours, theirs = checkpoint_files.load(folder.last), checkpoint_files.load(whole_folder.last)
    for part in ("network", "ema"):
        assert all(torch.equal(ours[part][name], theirs[part][name]) for name in theirs[part])
    assert ours["progress"]["epoch_sums"] == theirs["progress"]["epoch_sums"]
    assert ours["progress"]["best_val_top1"] == theirs["progress"]["best_val_top1"]
