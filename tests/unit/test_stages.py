"""Training in several stages: what each begins with, how one is cut short, and that an interruption does not show."""

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from engine.journal import commands, events
from engine.journal.jsonl import append_command, read_events
from engine.journal.state import fold
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.controls import Aborted, Controls
from engine.training.metrics import Sums
from engine.training.trainer import Trainer
from presets import schema
from tests.tiny_trainer import PRESET, make

STEPS_PER_EPOCH = 10
STAGES = (
    schema.Stage(name="crop", epochs=2, augment=(schema.RandomCrop(padding=4),)),
    schema.Stage(name="flip", epochs=1, augment=(schema.HorizontalFlip(),), start_from="best", lr=0.002),
    schema.Stage(name="plain", epochs=2, schedule=schema.Step(every=1), start_from="best"),
)


def staged(*stages: schema.Stage) -> schema.Preset:
    train = msgspec.structs.replace(PRESET.train, epochs=None, augment=())
    return msgspec.structs.replace(PRESET, train=train, stages=stages or STAGES)


def told(folder: RunDir, kind: type[events.Event]) -> list[events.Event]:
    return [event for event in read_events(folder.events) if isinstance(event, kind)]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer._setup.network.state_dict().items()}


def are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def with_val_top1(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, *top1: float) -> list[dict[str, Tensor]]:
    """Let the epochs of a run be validated with these accuracies; return their weights, as they come."""
    seen: list[dict[str, Tensor]] = []

    def evaluated(split: str, _look: object = None) -> Sums:
        seen.append(weights(trainer))
        return Sums(1.0, round(100 * top1[len(seen) - 1]) if split == "val" else 0, 100)

    monkeypatch.setattr(trainer, "_evaluate", evaluated)
    return seen


def test_the_journal_of_a_staged_run(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, staged())
    finished = trainer.run()
    stages = told(folder, events.StageStarted)
    assert [(s.stage, s.num_stages, s.name, s.first_epoch, s.epochs, s.total_epochs) for s in stages] == [  # type: ignore[attr-defined]
        (0, 3, "crop", 1, 2, 5),
        (1, 3, "flip", 3, 1, 5),
        (2, 3, "plain", 4, 2, 5),
    ]
    assert [(e.epoch, e.stage) for e in told(folder, events.EpochCompleted)] == [  # type: ignore[attr-defined]
        (1, 0), (2, 0), (3, 1), (4, 2), (5, 2),
    ]  # fmt: skip
    assert (finished.outcome, finished.epoch) == ("completed", 5)
    assert finished.reason == "all 3 stages are trained, 5 epochs"
    state = fold(read_events(folder.events))
    assert [stage.name for stage in state.stages] == ["crop", "flip", "plain"]
    assert state.total_epochs == 5


def test_a_stage_begins_with_the_best_weights_of_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _folder = make(tmp_path, staged())
    begun: list[dict[str, Tensor]] = []
    begin = trainer._begin_epoch
    monkeypatch.setattr(trainer, "_begin_epoch", lambda: (begun.append(weights(trainer)), begin())[1])
    validated = with_val_top1(trainer, monkeypatch, 0.5, 0.4, 0.3, 0.1, 0.2, 0.0)
    trainer.run()
    assert are_equal(begun[2], validated[0])  # the best of stage 1 is its first epoch, not its last
    assert are_equal(begun[3], validated[2])  # of stage 2, not of the run
    best = checkpoint_files.load(trainer._folder.best)
    assert best["epoch"] == 1
    assert are_equal(best["network"], validated[0])


def test_a_stage_may_begin_with_the_last_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path, staged(STAGES[0], schema.Stage(name="more", epochs=1)))
    begun: list[dict[str, Tensor]] = []
    begin = trainer._begin_epoch
    monkeypatch.setattr(trainer, "_begin_epoch", lambda: (begun.append(weights(trainer)), begin())[1])
    validated = with_val_top1(trainer, monkeypatch, 0.5, 0.4, 0.3, 0.0)
    trainer.run()
    assert are_equal(begun[2], validated[1])
    assert not (folder.checkpoints / "stage-best.pt").exists()


def test_every_stage_has_its_own_learning_rate_and_schedule(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, staged())
    trainer.run()
    rates = [event.lr for event in told(folder, events.EpochCompleted)]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0.01, 0.01, 0.002, 0.01, 0.001])


def test_a_stage_begins_without_momentum(tmp_path: Path) -> None:
    trainer, _folder = make(tmp_path, staged())
    before = trainer._train_state.stage_optimizer.optimizer
    trainer.run()
    assert before.state  # that of the first stage was used
    trainer._train_state.enter_stage(1)
    assert not trainer._train_state.stage_optimizer.optimizer.state


def test_next_stage_cuts_a_stage_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path, staged())
    train_batch = trainer._train_batch

    def batch(*args: object) -> None:
        train_batch(*args)  # type: ignore[arg-type]
        if trainer.progress.global_step == 3:
            trainer._controls.next_stage = True

    monkeypatch.setattr(trainer, "_train_batch", batch)
    finished = trainer.run()
    epochs = told(folder, events.EpochCompleted)
    assert [(e.epoch, e.stage, e.partial) for e in epochs] == [  # type: ignore[attr-defined]
        (1, 0, True), (2, 1, False), (3, 2, False), (4, 2, False),
    ]  # fmt: skip
    assert [s.total_epochs for s in told(folder, events.StageStarted)] == [5, 4, 4]  # type: ignore[attr-defined]
    assert (finished.outcome, finished.epoch) == ("completed", 4)
    assert finished.global_step == 4 + 3 * STEPS_PER_EPOCH


def answer(folder: RunDir, controls: Controls, command: commands.AnyCommand) -> events.CommandApplied:
    append_command(folder.commands, command)
    controls._look()
    return told(folder, events.CommandApplied)[-1]  # type: ignore[return-value]


def test_next_stage_is_obeyed_where_there_is_one_and_refused_in_words_elsewhere(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, staged())
    controls = trainer._controls
    early = answer(folder, controls, commands.NextStage())
    assert (early.accepted, early.effect) == (False, "no next stage: training has not begun yet")
    controls.stages_left = 1
    controls._obey(commands.Pause())
    obeyed = answer(folder, controls, commands.NextStage())
    assert (obeyed.accepted, controls.next_stage, controls._paused) == (True, True, False)
    controls.stages_left, controls.next_stage = 0, False
    late = answer(folder, controls, commands.NextStage())
    assert (late.accepted, late.effect, controls.next_stage) == (False, "no next stage: this is the last stage", False)


def test_a_stop_at_the_end_of_a_stage_does_not_begin_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path, staged())
    complete = trainer._complete_epoch

    def completed() -> None:
        complete()
        if trainer.progress.epoch == 3:
            trainer._controls.stop_after = "epoch"

    monkeypatch.setattr(trainer, "_complete_epoch", completed)
    finished = trainer.run()
    assert (finished.outcome, finished.epoch) == ("stopped", 2)
    assert len(told(folder, events.StageStarted)) == 1


@pytest.mark.parametrize("killed_at", [4, 11, 20, 21, 27, 30, 31, 45])
def test_an_interruption_does_not_show_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    whole, _folder = make(tmp_path / "whole", staged())
    whole.run()
    first, folder = make(tmp_path / "cut", staged())
    train_batch = first._train_batch

    def batch(*args: object) -> None:
        if first.progress.global_step == killed_at:
            raise Aborted
        train_batch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(first, "_train_batch", batch)
    with pytest.raises(Aborted):
        first.run()
    second, _ = make(tmp_path / "cut", staged())
    if folder.last.exists():
        second.restore(checkpoint_files.load(folder.last))
    second.run()
    assert are_equal(weights(second), weights(whole))
    assert second.progress.stage == 3


def test_a_stage_trains_the_last_layer_and_the_next_one_all(tmp_path: Path) -> None:
    stages = (
        schema.Stage(name="last layer", epochs=1, frozen=True),
        schema.Stage(name="all layers", epochs=1, start_from="best"),
    )
    preset = msgspec.structs.replace(staged(*stages), model=schema.Resnet18(stem="small"))
    trainer, folder = make(tmp_path, preset, num_train=16)
    before, seen = weights(trainer), []
    complete = trainer._complete_stage

    def completing() -> None:
        seen.append(weights(trainer))
        complete()

    trainer._complete_stage = completing  # type: ignore[method-assign]
    trainer.run()
    changed = [{name for name in before if not torch.equal(before[name], state[name])} for state in seen]
    assert changed[0] == {"fc.weight", "fc.bias"}
    assert {"conv1.weight", "bn1.running_mean", "fc.weight"} <= changed[1]
    assert any(event.phase == "features" for event in told(folder, events.DataProgressed))
