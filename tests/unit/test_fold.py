"""Whatever a valid journal holds, wherever it ends, and however viewers read it in parts: it folds to the same."""

import itertools
import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.journal import events as ev
from engine.journal.eta import time_left
from engine.journal.events import AnyEvent
from engine.journal.state import RunState, fold

_HOST = ev.HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1)


class _Worker:
    """Writes what a worker may write, as `draw` decides; can be killed and resumed at any step."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.told: list[AnyEvent] = []
        self.time = 1_790_000_000.0
        self.steps_per_epoch = draw(st.integers(1, 5))
        self.stages = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        self.place = (0, 1, 0)  # stage, epoch, step
        self.saved = self.place
        self.asked = 0

    def chance(self, one_in: int) -> bool:
        return bool(self.draw(st.integers(1, one_in)) == 1)

    def write(self, event: AnyEvent) -> None:
        self.time += self.draw(st.sampled_from([0.0, 0.1, 2.0, 500.0]))
        self.told.append(msgspec.structs.replace(event, seq=len(self.told) + 1, time=self.time))

    def step_of(self, place: tuple[int, int, int]) -> int:
        return (place[1] - 1) * self.steps_per_epoch + place[2]

    def begin(self) -> None:
        self.place = self.saved
        self.write(
            ev.RunStarted(
                pid=1, host="h", device="cpu", device_name="", precision="fp32", num_threads=1, versions={},
                global_step=self.step_of(self.place),
            )
        )  # fmt: skip
        if self.chance(2):
            self.write(ev.DataProgressed(phase="decode", done=1, total=0, unit="images", what="x"))
        self.write(
            ev.DataReady(
                dataset="x", source="", generated=False, num_train=self.steps_per_epoch, num_val=1, num_test=1,
                num_classes=2, image_size=8,
            )
        )  # fmt: skip
        self.write(ev.ModelBuilt(network="n", layers=(), num_parameters=1, num_trainable=1))
        self.begin_stage()

    def begin_stage(self) -> None:
        stage = self.place[0]
        first = 1 + sum(self.stages[:stage])
        self.write(
            ev.StageStarted(
                stage=stage, num_stages=len(self.stages), name="s", first_epoch=first, epochs=self.stages[stage],
                steps_per_epoch=self.steps_per_epoch, total_epochs=sum(self.stages),
            )
        )  # fmt: skip

    def ask(self, command: str, *, accepted: bool = True) -> None:
        self.asked += 1
        epoch, step = self.place[1], self.step_of(self.place)
        self.write(
            ev.CommandApplied(
                command_id=str(self.asked), command=command, accepted=accepted, effect="", epoch=epoch, global_step=step
            )
        )

    def now_and_then(self) -> None:
        """Write what may come between any two batches."""
        kind = self.draw(st.integers(0, 12))
        stage, epoch, step = self.place
        here = self.step_of(self.place)
        if kind == 0:
            self.write(ev.DeviceSampled(host=_HOST))
        elif kind == 1:
            self.ask("Pause")
            self.write(ev.Paused(global_step=here))
            self.ask("Continue")
            self.write(ev.Continued(global_step=here))
        elif kind == 2:
            self.saved = (stage, epoch, step)
            self.write(
                ev.CheckpointSaved(kind="last", path="p", epoch=epoch, global_step=here, num_bytes=1, seconds=0.1)
            )
        elif kind == 3:
            self.write(ev.Alerted(severity="notice", kind="k", text="t"))
        elif kind == 4:
            self.write(ev.EvaluationProgressed(split="val", done=1, total=2))
            self.write(ev.Validated(epoch=epoch, step=step, global_step=here, loss=1.0, top1=0.5, seconds=0.2))
        elif kind == 5:
            self.ask(self.draw(st.sampled_from(["ScaleLearningRate", "NextStage", "Stop"])), accepted=self.chance(2))

    def train_a_batch(self) -> None:
        stage, epoch, step = self.place
        self.place = (stage, epoch, step + 1)
        loss = self.draw(st.floats(allow_nan=True, allow_infinity=True, width=32))
        if self.chance(2) or step + 1 == self.steps_per_epoch:
            self.write(
                ev.StepsTrained(
                    epoch=epoch, step=step + 1, global_step=self.step_of(self.place), num_steps=1, num_images=1,
                    loss=loss, top1=0.5, lr=0.1, images_per_s=self.draw(st.sampled_from([0.0, 3.0])),
                )
            )  # fmt: skip
        if step + 1 == self.steps_per_epoch:
            self.complete_epoch()

    def complete_epoch(self) -> None:
        stage, epoch, _ = self.place
        self.write(ev.EvaluationProgressed(split="val", done=1, total=1))
        self.write(
            ev.EpochCompleted(
                epoch=epoch, stage=stage, global_step=self.step_of(self.place), train_loss=1.0, train_top1=0.1,
                val_loss=1.0, val_top1=self.draw(st.floats(0, 1)), lr=0.1, seconds=1.0, is_best=False,
                flops=ev.Flops(train=float(epoch)),
            )
        )  # fmt: skip
        self.place = (stage, epoch + 1, 0)
        if epoch == sum(self.stages[: stage + 1]) and stage + 1 < len(self.stages):
            self.place = (stage + 1, epoch + 1, 0)
            self.begin_stage()
        if self.chance(2):
            self.saved = self.place

    @property
    def is_done(self) -> bool:
        return self.place[1] > sum(self.stages)


@st.composite
def journals(draw: Any) -> list[AnyEvent]:
    """Draw the journal of a run, which may be killed and resumed up to three times."""
    worker = _Worker(draw)
    for _life in range(draw(st.integers(1, 4))):
        worker.begin()
        for _batch in range(draw(st.integers(0, 12))):
            if worker.is_done:
                break
            worker.now_and_then()
            worker.train_a_batch()
    if draw(st.booleans()):
        worker.write(ev.RunFinished(outcome="stopped", reason="", epoch=1, global_step=worker.step_of(worker.place)))
    return worker.told


def everything(state: RunState) -> dict[str, Any]:
    """Return a state as plain values, so that NaN is equal to itself."""
    values = msgspec.structs.asdict(state)
    values["steps"] = list(state.steps)
    return {name: repr(value) for name, value in values.items()}


@given(journals(), st.integers(0, 200))
def test_a_journal_folds_wherever_it_ends_and_announces_a_time_or_none(told: list[AnyEvent], end: int) -> None:
    state = RunState()
    for event in told[:end]:
        fold([event], state)
        _check_time_left(state)


@given(journals(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_events_in_any_order_fold_without_an_error(told: list[AnyEvent], random: Any) -> None:
    random.shuffle(told)
    state = fold(told)
    _check_time_left(state)


@given(journals(), st.lists(st.integers(0, 200), max_size=3))
def test_folding_in_parts_is_folding_at_once(told: list[AnyEvent], cuts: list[int]) -> None:
    in_parts, start = RunState(), 0
    for cut in [*sorted(cuts), len(told)]:
        fold(told[start:cut], in_parts)
        start = max(start, min(cut, len(told)))
    assert everything(in_parts) == everything(fold(told))


@given(journals())
def test_the_points_of_a_run_only_go_on_however_often_it_was_resumed(told: list[AnyEvent]) -> None:
    state = fold(told)
    for points in (state.steps, state.epochs):
        steps = [point.global_step for point in points]
        assert all(before < after for before, after in itertools.pairwise(steps)), steps
        places = [point.epoch for point in points]
        assert all(before < after for before, after in itertools.pairwise(places)), places
    for placed in (state.validations, state.marks):
        assert [each.global_step for each in placed] == sorted(each.global_step for each in placed)


@given(journals())
def test_what_is_in_a_journal_comes_through_json_unchanged(told: list[AnyEvent]) -> None:
    decoder = msgspec.json.Decoder(AnyEvent)
    finite = [event for event in told if not isinstance(event, ev.StepsTrained) or math.isfinite(event.loss)]
    assert [decoder.decode(msgspec.json.encode(event)) for event in finite] == finite


def _check_time_left(state: RunState) -> None:
    left = time_left(state)
    assert left is None or (math.isfinite(left) and left >= 0)
