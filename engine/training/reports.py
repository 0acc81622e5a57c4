"""Reports of training for the journal: their interval, their events, and the watch over them. No tensors."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from engine.journal.events import (
    AnyEvent,
    BestMeasured,
    EpochCompleted,
    RunFinished,
    StageStarted,
    StepsTrained,
    StepTiming,
    Validated,
)
from engine.journal.jsonl import EventWriter
from engine.training.alerts import LearningWatch
from engine.training.metrics import Sums
from engine.training.non_finite import NonFiniteError
from engine.training.progress import Progress
from presets.plan import PlannedStage
from presets.schema import BestBy


class ReportWindow(NamedTuple):
    """Steps trained between two reports."""

    sums: Sums
    num_steps: int
    images_per_s: float

    def steps(self, last: int) -> str:
        """Return the range of these batches in words, given the `last` of them."""
        first = last - self.num_steps + 1
        return f"step {last}" if first >= last else f"between the steps {first} and {last}"


class ReportInterval:
    """Interval of reports: ten a second at first, fewer as an epoch grows long, down to one every two seconds.

    Curves of a day's run then have no more points than can be drawn, and a short run still has many.
    """

    SHORTEST_S = 0.1
    LONGEST_S = 2.0
    SHARE = 1 / 300
    """Interval as a fraction of the epoch's seconds so far: an epoch of a minute ends with a report every 0.2 s."""

    def __init__(self, start: Sums, step: int) -> None:
        self._began = self._taken_at = time.monotonic()
        self._sums = start
        self._step = step

    def is_due(self) -> bool:
        """Return true if the next report is due."""
        now = time.monotonic()
        interval = min(self.LONGEST_S, max(self.SHORTEST_S, (now - self._began) * self.SHARE))
        return now - self._taken_at >= interval

    def skip(self, seconds: float) -> None:
        """Exclude seconds in which nothing was trained."""
        self._began += seconds
        self._taken_at += seconds

    def take(self, sums: Sums, step: int) -> ReportWindow | None:
        """Return the steps since the last report, up to `sums` and `step`; None if there are none."""
        new = sums.since(self._sums)
        if new.num_images <= 0:  # or they set off before the last report, and arrive behind it
            return None
        now = time.monotonic()
        seconds, num_steps = now - self._taken_at, step - self._step
        self._taken_at, self._sums, self._step = now, sums, step
        return ReportWindow(new, num_steps, new.num_images / seconds if seconds > 0 else 0.0)


class Reporter:
    """Journal of the training loop: its events with what the watch makes of them, and the steps of each interval.

    `interval` is that of the epoch under way.
    """

    def __init__(self, journal: EventWriter, watch: LearningWatch, batch_size: int) -> None:
        """Write to `journal`; `open_epoch` comes before the first report."""
        self._journal, self._watch, self._batch_size = journal, watch, batch_size

    def open_epoch(self, progress: Progress) -> None:
        """Begin an epoch, or go on in one."""
        self.interval = ReportInterval(progress.epoch_sums, progress.step)

    def tell(self, event: AnyEvent) -> None:
        """Journal an event that the watch goes by, and what it says of it."""
        self._journal.write(event)
        for alert in self._watch.see(event):
            self._journal.write(alert)

    def report(self, sums: Sums | None, progress: Progress, lr: float, timing: Callable[[], StepTiming | None]) -> None:
        """Journal what was trained since the last report.

        Args:
            sums: of the epoch, up to some step; None if there are none yet.
            progress: where training is, perhaps some steps ahead of the sums.
            lr: of now.
            timing: takes where the time of the steps went.

        Raises:
            NonFiniteError: the loss is none.
        """
        step = 0 if sums is None else math.ceil(sums.num_images / self._batch_size)
        window = None if sums is None else self.interval.take(sums, step)
        if window is None:
            return
        self.tell(steps_trained(progress, window, step, lr, timing()))
        if not window.sums.is_finite():
            where = f"{window.steps(step)} of epoch {progress.epoch}"
            raise NonFiniteError(f"The training loss is no longer a number ({where})")


def stage_started(
    progress: Progress, plan: Sequence[PlannedStage], steps_per_epoch: int, seconds_left: float | None
) -> StageStarted:
    """Return the event of the stage under way; the epochs planned count from its actual first epoch."""
    number, first_epoch = progress.stage, progress.stage_first_epoch
    return StageStarted(
        stage=number,
        num_stages=len(plan),
        name=plan[number].name,
        first_epoch=first_epoch,
        epochs=plan[number].epochs,
        steps_per_epoch=steps_per_epoch,
        total_epochs=first_epoch - 1 + sum(stage.epochs for stage in plan[number:]),
        seconds_left=seconds_left,
    )


def steps_trained(
    progress: Progress, window: ReportWindow, step: int, lr: float, timing: StepTiming | None
) -> StepsTrained:
    """Return the event for what was trained in `window`, which ends after `step` batches of this epoch."""
    norm = window.sums.mean_norm()
    return StepsTrained(
        epoch=progress.epoch,
        step=step,
        global_step=progress.global_step - (progress.step - step),
        num_steps=window.num_steps,
        num_images=window.sums.num_images,
        loss=window.sums.mean_loss(),
        top1=window.sums.top1(),
        lr=lr,
        images_per_s=window.images_per_s,
        timing=timing,
        grad_norm=None if norm is None else float(f"{norm:.5g}"),  # what a plot can show
        clipped=round(window.sums.share_clipped(), 4),
    )


def validated(progress: Progress, val: Sums, seconds: float) -> Validated:
    """Return the event of a validation within the epoch under way."""
    return Validated(
        epoch=progress.epoch,
        step=progress.step,
        global_step=progress.global_step,
        loss=val.mean_loss(),
        top1=val.top1(),
        seconds=seconds,
        balanced=val.balanced,
    )


def epoch_completed(
    progress: Progress,
    train: Sums,
    val: Sums,
    best_by: BestBy,
    *,
    lr: float,
    seconds: float,
    is_best: bool,
    partial: bool,
) -> EpochCompleted:
    """Return the event of the epoch under way, trained and validated."""
    return EpochCompleted(
        epoch=progress.epoch,
        stage=progress.stage,
        global_step=progress.global_step,
        train_loss=train.mean_loss(),
        train_top1=train.top1(),
        val_loss=val.mean_loss(),
        val_top1=val.top1(),
        val_balanced=val.balanced,
        lr=lr,
        seconds=seconds,
        is_best=is_best,
        best_by=best_by,
        partial=partial,
        flops=progress.flops,
    )


def best_measured(progress: Progress, val: Sums) -> BestMeasured:
    """Return the event of best weights measured on other validation images."""
    return BestMeasured(
        epoch=progress.best_epoch or 0,
        global_step=progress.global_step,
        val_loss=val.mean_loss(),
        val_top1=val.top1(),
        val_balanced=val.balanced,
    )


def run_finished(
    progress: Progress,
    num_stages: int,
    stop_reason: str,
    early: str,
    test: Sums | None,
    tested: Literal["best", "last"] = "best",
) -> RunFinished:
    """Return the last event of a run that is completed, perhaps `early` for this reason, or stopped."""
    is_complete = progress.stage == num_stages
    trained = f"all {progress.num_epochs} epochs are trained"
    if num_stages > 1:
        trained = f"all {num_stages} stages are trained, {progress.num_epochs} epochs"
    if early:
        trained = f"{progress.num_epochs} epochs are trained: {early}"
    return RunFinished(
        outcome="completed" if is_complete else "stopped",
        reason=trained if is_complete else stop_reason,
        epoch=progress.num_epochs,
        global_step=progress.global_step,
        best_epoch=progress.best_epoch,
        best_val_top1=progress.best_val_top1,
        test_loss=test.mean_loss() if test else None,
        test_top1=test.top1() if test else None,
        best_val_balanced=progress.best_val_balanced,
        test_balanced=test.balanced if test else None,
        tested=tested,
        flops=progress.flops,
    )
