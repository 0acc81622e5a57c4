"""The announced end of a run keeps still while its steps do not."""

import itertools
import math
import random
from collections.abc import Callable, Iterator

import msgspec
import pytest

from engine.journal import events
from engine.journal.eta import time_left
from engine.journal.events import AnyEvent
from engine.journal.state import RunState, fold

STEPS, VAL_IMAGES = 100, 20


class Clockwork:
    """Writes the events of a run whose steps take `step_s(stage)` seconds, with ±20 % of noise."""

    def __init__(self, stages: list[int], step_s: Callable[[int], float], val_s: float, seed: int = 1) -> None:
        self.stages, self.step_s, self.val_s = stages, step_s, val_s
        self.random = random.Random(seed)
        self.time, self.global_step = 1000.0, 0
        self.pauses: dict[int, float] = {}

    def noisy(self, seconds: float) -> float:
        return seconds * self.random.uniform(0.8, 1.2)

    def at(self, event: AnyEvent, after_s: float = 0.0) -> AnyEvent:
        self.time += after_s
        return msgspec.structs.replace(event, time=self.time)

    def events(self) -> Iterator[AnyEvent]:
        yield self.at(
            events.RunStarted(
                pid=1, host="h", device="cpu", device_name="", precision="fp32", num_threads=1, versions={}
            )
        )
        yield self.at(
            events.DataReady(
                dataset="x", source="", generated=False, num_train=STEPS * 10, num_val=VAL_IMAGES, num_test=10,
                num_classes=10, image_size=32,
            ),
            3,
        )  # fmt: skip
        first = 1
        for number, epochs in enumerate(self.stages):
            yield self.at(
                events.StageStarted(
                    stage=number, num_stages=len(self.stages), name="", first_epoch=first, epochs=epochs,
                    steps_per_epoch=STEPS, total_epochs=sum(self.stages),
                )
            )  # fmt: skip
            for epoch in range(first, first + epochs):
                yield from self.epoch(number, epoch)
            first += epochs

    def epoch(self, stage: int, epoch: int) -> Iterator[AnyEvent]:
        began = self.time
        for step in range(1, STEPS + 1):
            self.global_step += 1
            if paused_s := self.pauses.get(self.global_step):
                yield self.at(events.Paused(global_step=self.global_step))
                yield self.at(events.Continued(global_step=self.global_step), paused_s)
                began += paused_s
            seconds = self.noisy(self.step_s(stage))
            yield self.at(
                events.StepsTrained(
                    epoch=epoch, step=step, global_step=self.global_step, num_steps=1, num_images=10, loss=1.0,
                    top1=0.1, lr=0.1, images_per_s=10 / seconds,
                ),
                seconds,
            )  # fmt: skip
        for done in range(1, VAL_IMAGES + 1):
            yield self.at(
                events.EvaluationProgressed(split="val", done=done, total=VAL_IMAGES),
                self.noisy(self.val_s / VAL_IMAGES),
            )
        yield self.at(
            events.EpochCompleted(
                epoch=epoch, stage=stage, global_step=self.global_step, train_loss=1.0, train_top1=0.1, val_loss=1.0,
                val_top1=0.1, lr=0.1, seconds=self.time - began, is_best=False,
            )
        )  # fmt: skip


def announced(run: Clockwork) -> list[tuple[float, float]]:
    """Return (now, seconds left) after every report of the run."""
    state, told = RunState(), []
    for event in run.events():
        fold([event], state)
        left = time_left(state)
        if left is not None:
            assert math.isfinite(left)
            assert left >= 0
            if isinstance(event, events.StepsTrained | events.EvaluationProgressed | events.EpochCompleted):
                told.append((run.time, left))
    return told


def test_it_goes_by_the_median_of_the_last_five_whole_epochs() -> None:
    run = Clockwork([20], lambda _stage: 1.0, val_s=0.0)
    state = RunState()
    lengths_s = iter((40, 40, 300, 30, 20, 10, 10))  # medians of the last 3, 4, 6, 7: 10, 15, 25, 30; mean 74
    for event in run.events():
        if isinstance(event, events.EpochCompleted):
            fold([msgspec.structs.replace(event, seconds=float(next(lengths_s)))], state)
            if event.epoch == 7:
                break
        elif not isinstance(event, events.StepsTrained | events.EvaluationProgressed):
            fold([event], state)
    assert time_left(state) == 13 * 20


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("epochs", "val_s"), [(10, 5.0), (1, 5.0), (40, 5.0), (3, 0.5), (10, 8.0)])
def test_the_announced_end_keeps_still_under_noise(epochs: int, val_s: float, seed: int) -> None:
    told = announced(Clockwork([epochs], lambda _stage: 1.0, val_s, seed))
    begin, end = told[0][0], told[-1][0]
    steady = [(now, left) for now, left in told if now - begin >= 0.05 * (end - begin)]
    for (before, left_before), (now, left) in itertools.pairwise(steady):
        if left_before < 3.0:  # the end is a few reports away: their own noise is all that is left
            break
        moved = abs(now + left - (before + left_before))
        assert moved < 0.1 * left_before, (now, before, left, left_before)


def test_it_is_right_to_a_few_percent_from_the_first_whole_epoch_on() -> None:
    told = announced(Clockwork([10], lambda _stage: 1.0, 30.0))
    end = told[-1][0]
    for now, left in told:
        if now - 1000 > 150 and end - now > 20:
            assert left == pytest.approx(end - now, rel=0.08)


def test_a_stage_that_costs_more_moves_the_end_within_its_first_epoch_and_never_at_once() -> None:
    told = announced(Clockwork([4, 6], lambda stage: 1.0 + 2.0 * stage, 5.0))
    by_report = list(itertools.pairwise(told))
    assert all(
        abs(now + left - before - left_before) < 0.1 * left_before
        for (before, left_before), (now, left) in by_report
        if before > 1030 and left_before > 5
    )
    end = told[-1][0]
    into_stage = [(now, left) for now, left in told if now > 1000 + 4 * 105 + 310]
    assert all(left == pytest.approx(end - now, rel=0.08) for now, left in into_stage if end - now > 30)


@pytest.mark.parametrize("at", [50, 250])
def test_a_pause_does_not_count(at: int) -> None:
    paused, through = Clockwork([4], lambda _stage: 1.0, 5.0), Clockwork([4], lambda _stage: 1.0, 5.0)
    paused.pauses[at] = 10_000.0
    assert [left for _, left in announced(paused)] == pytest.approx([left for _, left in announced(through)])


@pytest.mark.parametrize(("num_train", "batch_size"), [(33, 2), (1000, 10), (5000, 10)])
def test_a_range_tests_first_report_announces_its_steps_and_not_its_passes(num_train: int, batch_size: int) -> None:
    """33 images and 2,000 batches of 2: one epoch of the journal is 125 passes, and a step is not 0.02 images."""
    start, data = list(itertools.islice(Clockwork([1], lambda _stage: 1.0, 0.0).events(), 2))
    stage = events.StageStarted(
        stage=0, num_stages=1, name="range test", first_epoch=1, epochs=1, steps_per_epoch=2000, total_epochs=1,
        time=1003.0,
    )  # fmt: skip
    reports = [
        events.StepsTrained(
            epoch=1, step=step, global_step=step, num_steps=13, num_images=13 * batch_size, loss=1.0, top1=0.1, lr=0.1,
            images_per_s=batch_size / 0.957, time=1003.0 + 0.957 * step,
        )
        for step in (13, 26, 39)
    ]  # fmt: skip
    state = fold([start, msgspec.structs.replace(data, num_train=num_train), stage])
    assert time_left(state) is None
    for report in reports:
        assert time_left(fold([report], state)) == pytest.approx(0.957 * (2000 - report.step), rel=0.01)


def test_after_a_resume_the_gap_does_not_count() -> None:
    run = Clockwork([2], lambda _stage: 1.0, 5.0)
    told = list(run.events())
    steps = [event for event in told if isinstance(event, events.StepsTrained)]
    again = msgspec.structs.replace(told[0], global_step=40, time=90_000.0)
    later = [msgspec.structs.replace(step, time=90_000.0 + number) for number, step in enumerate(steps[40:60])]
    state = fold([*told[:3], *steps[:45], again, told[2], *later])
    assert time_left(state) == pytest.approx(140.0, rel=0.05)


def test_a_resume_at_the_start_of_an_epoch_counts_the_epochs_that_are_left() -> None:
    told = list(Clockwork([4], lambda _stage: 1.0, 5.0).events())
    done = next(number for number, event in enumerate(told) if isinstance(event, events.EpochCompleted))
    again = msgspec.structs.replace(told[0], global_step=STEPS, time=90_000.0)
    state = fold([*told[: done + 1], again, told[2]])
    assert time_left(state) == pytest.approx(3 * 105, rel=0.05)


def test_the_final_test_is_not_announced() -> None:
    told = list(Clockwork([1], lambda _stage: 1.0, 5.0).events())
    state = fold(told)
    assert time_left(state) == 0
    assert time_left(fold([events.EvaluationProgressed(split="test", done=1, total=10)], state)) is None


def test_a_run_that_is_stopping_announces_no_planned_end_until_the_stop_is_taken_back() -> None:
    told = list(Clockwork([4], lambda _stage: 1.0, 5.0).events())[:20]

    def obeyed(command: str) -> events.CommandApplied:
        return events.CommandApplied(
            command_id=command, command=command, accepted=True, effect="", epoch=1, global_step=5, time=told[-1].time
        )

    state = fold(told)
    assert time_left(state) is not None
    assert time_left(fold([obeyed("Stop")], state)) is None
    assert time_left(fold([obeyed("Continue")], state)) is not None
