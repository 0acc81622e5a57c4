"""State of a run: `RunState`, made of its events by the pure function `fold`. No files.

Used alike by the dashboard, the plain output and `cifartui runs`. The events do not say if the worker is alive;
`engine.runs.run_dir` adds that.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import groupby, pairwise
from typing import Annotated, Any, Literal, TypeAlias, cast

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from engine.journal.commands import Continue, Stop, kind_of
from engine.journal.events import (
    Alerted,
    AnyEvent,
    BestMeasured,
    CheckpointSaved,
    CommandApplied,
    Continued,
    Count,
    DataProgressed,
    DataReady,
    DeviceSampled,
    Epoch,
    EpochCompleted,
    EvaluationProgressed,
    Flops,
    ModelBuilt,
    Moment,
    Number,
    Paused,
    RunFinished,
    RunStarted,
    StageStarted,
    StepsTrained,
    StepTiming,
    Validated,
)
from engine.journal.peaks import PeakMemory, peaks_with
from engine.journal.series import StepSeries

Phase: TypeAlias = Literal[
    "starting", "data", "model", "training", "validating", "testing", "paused",
    "completed", "stopped", "aborted", "failed",
]  # fmt: skip
FINISHED: frozenset[Phase] = frozenset({"completed", "stopped", "aborted", "failed"})
RATE_WINDOW = 20
SAMPLES_KEPT = 3600
_BETWEEN_BEATS_S = 4.0
"""Twice what lies between two samples: a clock that was set, or a frozen worker, adds no more than this."""


class EpochPoint(Struct, frozen=True):
    """Metrics of a finished epoch; `epoch` is how many epochs were done by then."""

    global_step: Count
    epoch: Annotated[float, Meta(ge=0.0, le=1e7)]
    time: Moment
    train_loss: Number
    train_top1: Number
    val_loss: Number
    val_top1: Number
    lr: Number
    seconds: Number
    partial: bool
    stage: Epoch = 0
    val_balanced: Number | None = None
    best_by: Literal["val_top1", "val_balanced"] = "val_top1"
    flops: Flops | None = None
    """Spent by the run until then; None in journals of before they were counted."""

    @property
    def score(self) -> float:
        """The validation accuracy that decides which epoch is the best."""
        if self.best_by == "val_balanced" and self.val_balanced is not None:
            return self.val_balanced
        return self.val_top1

    @property
    def pflop(self) -> float | None:
        """PFLOP spent by the run until then; None if they were not counted."""
        return self.flops.pflop if self.flops is not None else None

    @property
    def number(self) -> int:
        """The epoch's number, from 1; a partial epoch counts as the one it is part of."""
        return math.ceil(self.epoch)


class RunState(Struct):
    """Everything a viewer shows of a run. Mutable only by `apply`."""

    phase: Phase = "starting"
    started: RunStarted | None = None
    first_started_time: Moment | None = None
    data_progress: DataProgressed | None = None
    data: DataReady | None = None
    model: ModelBuilt | None = None
    stage: StageStarted | None = None
    """The current stage, or the last one."""
    stages: list[StageStarted] = field(default_factory=list)
    """Those begun so far, in order."""
    finished: RunFinished | None = None
    """The last word of the last worker; None while one is at work."""
    tested: RunFinished | None = None
    """The last word that had a test accuracy; `test` says if it still holds."""
    tested_at: Count = 0
    """Step of the weights in last.pt then: nothing has been trained since while the run is there."""

    epoch: Epoch = 0
    """The current epoch, or the last one trained; 0 before training."""
    step: Count = 0
    """Batches trained in it."""
    global_step: Count = 0
    lr: Number | None = None
    timing: StepTiming | None = None
    """Parts of the time of a step, if the worker measured them."""
    images_per_s: Number | None = None
    """Mean over the last two seconds or so of training."""
    evaluation: EvaluationProgressed | None = None

    steps: StepSeries = field(default_factory=StepSeries)
    epochs: list[EpochPoint] = field(default_factory=list)
    best: EpochPoint | None = None
    best_before: EpochPoint | None = None
    """The best epoch before the validation images changed, with its accuracy on those of now."""
    changed_at: Count = 0
    """Step at which the validation images changed; accuracies up to it count only in `best_before`."""
    validations: list[Validated] = field(default_factory=list)
    """Those asked for within an epoch, oldest first; whole epochs are in `epochs`."""
    marks: list[CommandApplied] = field(default_factory=list)
    """Commands that changed training, to be drawn at the step at which they took effect."""
    device: DeviceSampled | None = None
    device_history: deque[DeviceSampled] = field(default_factory=lambda: deque(maxlen=SAMPLES_KEPT))
    peak_memory: PeakMemory = PeakMemory()
    checkpoints: dict[str, CheckpointSaved] = field(default_factory=dict)
    commands: dict[str, CommandApplied] = field(default_factory=dict)
    """Acknowledged commands by id."""
    alerts: list[Alerted] = field(default_factory=list)
    log: list[AnyEvent] = field(default_factory=list)
    """The events that are not frequent, oldest first."""
    last_time: Moment | None = None
    """Unix time of the newest event of any kind."""
    rates: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RATE_WINDOW))
    worker_s: Number | None = None
    """Uptime in seconds of the worker that has not said its last word, as it measured it; None in older journals."""
    workers_before_s: Number = 0.0
    """The same of all workers before it, and of the last one once it has ended."""

    @property
    def is_finished(self) -> bool:
        """True if the last event is RunFinished."""
        return self.phase in FINISHED

    @property
    def test(self) -> RunFinished | None:
        """The last word whose test accuracy is that of the weights there are; None once training has gone on."""
        return self.tested if self.global_step == self.tested_at else None

    @property
    def is_stopping(self) -> bool:
        """True if this worker accepted a stop that was not taken back."""
        since = self.started.time if self.started else 0.0
        obeyed = [(kind_of(told.command), told.time) for told in self.commands.values() if told.accepted]
        stops = [(kind, time) for kind, time in obeyed if kind in {Stop, Continue}]
        if not stops or self.is_finished:
            return False
        kind, time = stops[-1]
        return kind is Stop and time >= since

    @property
    def total_epochs(self) -> int:
        """The last epoch of the run as planned now; 0 before it is known."""
        if self.stage is None:
            return 0
        return self.stage.total_epochs or self.stage.first_epoch + self.stage.epochs - 1

    @property
    def flops(self) -> Flops | None:
        """FLOPs spent for the weights that there are, up to the last validated epoch or the end; None if not counted.

        What a lost worker did after its last checkpoint is not in them, as its epochs are not in `epochs`.
        """
        for end in (self.finished, self.test):
            if end is not None and end.flops is not None:
                return end.flops
        return self.epochs[-1].flops if self.epochs else None

    @property
    def share_done(self) -> float:
        """Fraction trained of all epochs planned now; 0 before they are known."""
        if self.stage is None:
            return 0.0
        in_epoch = self.step / max(1, self.stage.steps_per_epoch)
        return (max(self.epoch, 1) - 1 + in_epoch) / max(1, self.total_epochs)


def worked_s(state: RunState, until: float | None) -> float | None:
    """Return the summed uptime of a run's workers in seconds; None if none has worked.

    By their own monotonic clocks if the journal has that; in older ones by the times of its events.

    Args:
        state: of the run.
        until: Unix seconds: now, or the last event of the last worker.
    """
    if state.worker_s is not None and state.device is not None and until is not None:
        since = 0.0 if state.is_finished else min(max(0.0, until - state.device.time), _BETWEEN_BEATS_S)
        return state.workers_before_s + state.worker_s + since
    starts = [number for number, event in enumerate(state.log) if isinstance(event, RunStarted)]
    if not starts or until is None:
        return None
    before = sum(state.log[end - 1].time - state.log[start].time for start, end in pairwise(starts))
    return before + max(0.0, until - state.log[starts[-1]].time)


def fold(events: Iterable[AnyEvent], state: RunState | None = None) -> RunState:
    """Return the state after `events`; `state`, if given, is the one before and is updated in place."""
    state = RunState() if state is None else state
    for is_of_curve, group in groupby(events, key=_is_of_curve):
        if is_of_curve:
            _on_curve(state, cast(list[StepsTrained | DeviceSampled], list(group)))
        else:
            for event in group:
                apply(state, event)
    return state


def _is_of_curve(event: AnyEvent) -> bool:
    return type(event) is StepsTrained or type(event) is DeviceSampled


def _on_curve(state: RunState, events: list[StepsTrained | DeviceSampled]) -> None:
    """Apply consecutive events of the two kinds that most of a journal is made of; neither goes by the other."""
    steps = [event for event in events if isinstance(event, StepsTrained)]
    if steps:
        _on_steps_trained(state, steps)
    for event in events:
        if isinstance(event, DeviceSampled):
            _on_device_sampled(state, event)
    state.last_time = events[-1].time


def apply(state: RunState, event: AnyEvent) -> None:
    """Apply one event to `state`, in place."""
    if isinstance(event, StepsTrained):
        _on_steps_trained(state, [event])
    else:
        state.last_time = event.time
        _REACTIONS[type(event)](state, event)
        if not event.frequent:
            state.log.append(event)


def _on_started(state: RunState, event: RunStarted) -> None:
    state.started, state.finished, state.phase = event, None, "starting"
    state.first_started_time = state.first_started_time or event.time
    state.global_step, state.images_per_s = event.global_step, None
    state.rates.clear()
    # What the lost worker did after its last checkpoint is about to happen again.
    state.steps.cut_after(event.global_step)
    state.validations = [each for each in state.validations if each.global_step <= event.global_step]
    state.marks = [mark for mark in state.marks if mark.global_step <= event.global_step]
    state.epochs = [point for point in state.epochs if point.global_step <= event.global_step]
    if state.tested_at > event.global_step:
        _forget_test(state)
    if state.changed_at > event.global_step:
        state.best_before, state.changed_at = None, 0
    state.best = _best_of(state)
    done = max(series[-1].epoch if series else 0.0 for series in (state.epochs, state.steps))
    state.epoch = math.ceil(done)
    state.step = round((done - state.epoch + 1) * state.stage.steps_per_epoch) if state.stage and done else 0


def _on_data_progressed(state: RunState, event: DataProgressed) -> None:
    state.phase, state.data_progress = "data", event


def _on_data_ready(state: RunState, event: DataReady) -> None:
    state.phase, state.data, state.data_progress = "model", event, None


def _on_model_built(state: RunState, event: ModelBuilt) -> None:
    state.phase, state.model = "model", event


def _on_stage_started(state: RunState, event: StageStarted) -> None:
    state.phase, state.stage = "training", event
    state.stages = [*(stage for stage in state.stages if stage.stage < event.stage), event]
    state.epoch, state.step = max(state.epoch, event.first_epoch), 0


def _on_steps_trained(state: RunState, events: list[StepsTrained]) -> None:
    """Apply consecutive events: half a million of them when a long run is opened."""
    last = events[-1]
    state.phase, state.evaluation, state.last_time = "training", None, last.time
    state.epoch, state.step, state.global_step, state.lr = last.epoch, last.step, last.global_step, last.lr
    for event in events[-RATE_WINDOW:]:
        state.timing = event.timing or state.timing
        state.rates.append((event.num_images, event.num_images / event.images_per_s if event.images_per_s else 0.0))
    num_images, seconds = map(sum, zip(*state.rates, strict=True))
    state.images_per_s = num_images / seconds if seconds else None
    steps_per_epoch = state.stage.steps_per_epoch if state.stage else last.step
    state.steps.extend(events, max(1, steps_per_epoch))


def _on_validated(state: RunState, event: Validated) -> None:
    state.phase, state.evaluation = "training", None
    state.validations.append(event)


def _on_evaluation_progressed(state: RunState, event: EvaluationProgressed) -> None:
    state.phase = "validating" if event.split == "val" else "testing"
    state.evaluation = event


def _on_epoch_completed(state: RunState, event: EpochCompleted) -> None:
    state.phase, state.evaluation = "training", None
    state.epoch, state.global_step, state.lr = event.epoch, event.global_step, event.lr
    steps_per_epoch = state.stage.steps_per_epoch if state.stage else 0
    state.step = state.step if event.partial else steps_per_epoch
    done = event.epoch - 1 + state.step / steps_per_epoch if steps_per_epoch else float(event.epoch)
    point = EpochPoint(
        event.global_step, done, event.time, event.train_loss, event.train_top1,
        event.val_loss, event.val_top1, event.lr, event.seconds, event.partial, event.stage,
        event.val_balanced, event.best_by, event.flops,
    )  # fmt: skip
    if state.epochs and state.epochs[-1].global_step == point.global_step:
        state.epochs.pop()  # a worker was lost before it had saved this, and the next one did it again
    state.epochs.append(point)
    state.best = _best_of(state)
    if point.global_step > state.tested_at:  # these weights are kept: nobody comes back to those of the test
        _forget_test(state)


def _forget_test(state: RunState) -> None:
    state.tested, state.tested_at = None, 0


def _best_of(state: RunState) -> EpochPoint | None:
    """Return the first epoch with the highest validation accuracy: the one whose weights are in best.pt."""
    before = [state.best_before] if state.best_before is not None else []
    since = [point for point in state.epochs if point.global_step > state.changed_at or not state.changed_at]
    return max([*before, *since], key=lambda point: point.score, default=None)


def _on_best_measured(state: RunState, event: BestMeasured) -> None:
    points = [point for point in state.epochs if point.number == event.epoch]
    if points:
        state.best_before = replace(
            points[-1], val_loss=event.val_loss, val_top1=event.val_top1, val_balanced=event.val_balanced
        )
    state.changed_at = event.global_step
    state.best = _best_of(state)


def _on_checkpoint_saved(state: RunState, event: CheckpointSaved) -> None:
    state.checkpoints[event.kind] = event


def _on_device_sampled(state: RunState, event: DeviceSampled) -> None:
    state.device = event
    state.peak_memory = peaks_with(state.peak_memory, event, state.started)
    if event.worker_s is not None:
        if state.worker_s is not None and event.worker_s < state.worker_s:  # a lost worker's run is another's now
            state.workers_before_s += state.worker_s
        state.worker_s = event.worker_s
    state.device_history.append(event)


def _on_command_applied(state: RunState, event: CommandApplied) -> None:
    state.commands[event.command_id] = event
    kind = kind_of(event.command)
    if event.accepted and kind is not None and kind.marks_curve:
        state.marks.append(event)


def _on_alerted(state: RunState, event: Alerted) -> None:
    state.alerts.append(event)


def _on_paused(state: RunState, _event: Paused) -> None:
    state.phase = "paused"


def _on_continued(state: RunState, _event: Continued) -> None:
    state.phase = "training"


def _on_finished(state: RunState, event: RunFinished) -> None:
    state.phase, state.finished, state.evaluation = event.outcome, event, None
    if event.test_top1 is not None:
        state.tested, state.tested_at = event, state.global_step
    if state.worker_s is not None:  # the next reading is another worker's, whatever its uptime
        state.workers_before_s += max(state.worker_s, event.seconds)
        state.worker_s = 0.0


_REACTIONS: dict[type, Callable[[RunState, Any], None]] = {
    RunStarted: _on_started,
    DataProgressed: _on_data_progressed,
    DataReady: _on_data_ready,
    BestMeasured: _on_best_measured,
    ModelBuilt: _on_model_built,
    StageStarted: _on_stage_started,
    Validated: _on_validated,
    EvaluationProgressed: _on_evaluation_progressed,
    EpochCompleted: _on_epoch_completed,
    CheckpointSaved: _on_checkpoint_saved,
    DeviceSampled: _on_device_sampled,
    CommandApplied: _on_command_applied,
    Alerted: _on_alerted,
    Paused: _on_paused,
    Continued: _on_continued,
    RunFinished: _on_finished,
}
