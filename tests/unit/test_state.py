import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal import commands, events
from engine.journal.eta import time_left
from engine.journal.events import AnyEvent
from engine.journal.state import RunState, fold
from engine.runs.run_dir import STALLED_AFTER_S, status_of
from tests import every

STARTED = events.RunStarted(
    pid=1, host="h", device="cpu", device_name="CPU", precision="fp32", num_threads=2, versions={}, time=100.0
)
DATA = events.DataReady(
    dataset="cifar100",
    source="x",
    generated=False,
    num_train=100,
    num_val=10,
    num_test=10,
    num_classes=100,
    image_size=32,
)
STAGE = events.StageStarted(stage=0, num_stages=1, name="train", first_epoch=1, epochs=4, steps_per_epoch=10)


def steps(epoch: int, step: int, *, loss: float = 1.0, time: float = 101.0) -> events.StepsTrained:
    return events.StepsTrained(
        epoch=epoch, step=step, global_step=(epoch - 1) * 10 + step, num_steps=5, num_images=50, loss=loss,
        top1=0.5, lr=0.1, images_per_s=100.0, time=time,
    )  # fmt: skip


def epoch(
    number: int, val_top1: float, *, partial_at: int | None = None, seconds: float = 2.0
) -> events.EpochCompleted:
    return events.EpochCompleted(
        epoch=number, global_step=(number - 1) * 10 + (partial_at or 10), train_loss=1.0, train_top1=0.5, val_loss=1.0,
        val_top1=val_top1, lr=0.1, seconds=seconds, is_best=False, partial=partial_at is not None,
    )  # fmt: skip


@pytest.mark.parametrize("event", every.EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_taken_in_and_kept_in_the_log_unless_it_is_frequent(event: AnyEvent) -> None:
    state = fold([event])
    assert state.last_time == event.time
    assert state.log == ([] if event.frequent else [event])
    assert not (event.frequent and event.logged)


@pytest.mark.parametrize("command", every.COMMANDS, ids=str)
def test_commands_that_change_how_training_goes_on_mark_the_curve(command: commands.AnyCommand) -> None:
    obeyed = [each for each in every.EVENTS if isinstance(each, events.CommandApplied)]
    obeyed = [each for each in obeyed if each.command == type(command).__name__]
    assert {each.accepted for each in obeyed} == {True, False}
    marks = fold(obeyed).marks
    keeps_on = isinstance(command, commands.SaveCheckpoint | commands.Validate | commands.Abort)
    expected = [] if keeps_on else [each for each in obeyed if each.accepted]
    assert marks == expected, f"{type(command).__name__} belongs into keeps_on, or has the wrong marks_curve"


def test_a_command_of_a_newer_version_marks_nothing() -> None:
    (applied,) = [each for each in every.EVENTS if isinstance(each, events.CommandApplied)][:1]
    state = fold([msgspec.structs.replace(applied, command="FromTheFuture")])
    assert state.marks == []
    assert not state.is_stopping


def test_a_run_that_trains() -> None:
    state = fold([STARTED, DATA, STAGE, steps(1, 5), steps(1, 10), epoch(1, 0.3), steps(2, 5)])
    assert state.phase == "training"
    assert (state.epoch, state.step, state.global_step, state.total_epochs) == (2, 5, 15, 4)
    assert [point.epoch for point in state.steps] == [0.5, 1.0, 1.5]
    assert state.images_per_s == 100.0


def test_the_best_epoch_is_the_first_with_the_highest_accuracy() -> None:
    state = fold([STARTED, STAGE, epoch(1, 0.3), epoch(2, 0.5), epoch(3, 0.5), epoch(4, 0.4)])
    assert state.best is not None
    assert (state.best.number, state.best.val_top1) == (2, 0.5)


def test_time_left_comes_from_whole_epochs_where_there_are_some() -> None:
    before = fold([STARTED, DATA, STAGE, steps(1, 5)])
    assert time_left(before) == 3.5 * 100 / 100.0
    after = fold([epoch(1, 0.1, seconds=7.0), steps(2, 5)], before)
    assert time_left(after) == 2.5 * 7.0


def test_a_partial_epoch_lies_where_training_stopped_and_does_not_spoil_the_time_left() -> None:
    state = fold(
        [STARTED, DATA, STAGE, epoch(1, 0.1, seconds=7.0), steps(2, 4), epoch(2, 0.2, partial_at=4, seconds=0.1)]
    )
    assert state.epochs[-1].epoch == 1.4
    assert state.epochs[-1].number == 2
    assert time_left(state) == pytest.approx(2.6 * 7.0)


def test_a_resume_forgets_what_will_be_trained_again() -> None:
    lost = [STARTED, STAGE, steps(1, 10), epoch(1, 0.9), steps(2, 5), epoch(2, 1.0)]
    state = fold([*lost, msgspec.structs.replace(STARTED, global_step=10), STAGE])
    assert [point.global_step for point in state.steps] == [10]
    assert [point.global_step for point in state.epochs] == [10]
    assert state.best is not None
    assert state.best.val_top1 == 0.9
    assert state.global_step == 10


def test_an_epoch_that_was_told_and_not_saved_counts_once() -> None:
    again = msgspec.structs.replace(
        STARTED, global_step=10
    )  # a checkpoint behind the last batch, before the epoch's end
    state = fold([STARTED, DATA, STAGE, steps(1, 10), epoch(1, 0.3), again, DATA, STAGE, epoch(1, 0.3)])
    assert [point.number for point in state.epochs] == [1]
    stopped = fold([STARTED, STAGE, steps(1, 5), epoch(1, 0.2, partial_at=5), steps(1, 10), epoch(1, 0.3)])
    assert [point.partial for point in stopped.epochs] == [True, False]


def test_phases_follow_the_events() -> None:
    told: list[tuple[AnyEvent, str]] = [
        (STARTED, "starting"),
        (events.DataProgressed(phase="unpack", done=1, total=2, unit="B", what="x"), "data"),
        (DATA, "model"),
        (events.ModelBuilt(network="vgg", layers=(), num_parameters=1, num_trainable=1), "model"),
        (STAGE, "training"),
        (steps(1, 5), "training"),
        (events.Paused(global_step=5), "paused"),
        (events.Continued(global_step=5), "training"),
        (events.EvaluationProgressed(split="val", done=1, total=2), "validating"),
        (epoch(1, 0.3), "training"),
        (events.EvaluationProgressed(split="test", done=1, total=2), "testing"),
        (events.RunFinished(outcome="stopped", reason="asked", epoch=1, global_step=10), "stopped"),
    ]
    state = RunState()
    for event, phase in told:
        fold([event], state)
        assert state.phase == phase, event


def test_status_adds_whether_the_worker_lives() -> None:
    state = fold([STARTED, STAGE, steps(1, 5, time=1000.0)])
    assert status_of(state, True, 1001.0) == "training"
    assert status_of(state, False, 1001.0) == "lost"
    assert status_of(state, True, 1001.0 + STALLED_AFTER_S) == "stalled"
    assert status_of(state, None, 1001.0 + STALLED_AFTER_S) == "lost"
    finished = fold([events.RunFinished(outcome="failed", reason="x", epoch=1, global_step=5)], state)
    assert status_of(finished, False, 9999.0) == "failed"


def test_a_run_not_yet_heard_of_is_starting_or_lost() -> None:
    assert status_of(RunState(), True, 0.0) == "starting"
    assert status_of(RunState(), False, 0.0) == "lost"


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 10)), max_size=40), st.integers(0, 40))
def test_folding_in_two_parts_is_folding_at_once(places: list[tuple[int, int]], cut: int) -> None:
    told: list[AnyEvent] = [STARTED, DATA, STAGE, *(steps(e, s, loss=math.sqrt(s)) for e, s in sorted(places))]
    at_once = fold(told)
    in_parts = fold(told[cut:], fold(told[:cut]))
    assert msgspec.structs.asdict(at_once) == msgspec.structs.asdict(in_parts)
