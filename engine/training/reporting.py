"""What the loop has done, put into events: pure functions of its progress, its plan and its sums."""

from collections.abc import Sequence

from engine.journal.events import EpochCompleted, RunFinished, StageStarted, StepsTrained, StepTiming, Validated
from engine.training.metrics import Sums
from engine.training.pace import Window
from engine.training.progress import Progress
from presets.plan import PlannedStage


def stage_started(
    progress: Progress, plan: Sequence[PlannedStage], steps_per_epoch: int, seconds_left: float | None
) -> StageStarted:
    """Return the event of the stage under way; the epochs planned count from where it really began."""
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


def steps_trained(progress: Progress, window: Window, step: int, lr: float, timing: StepTiming | None) -> StepsTrained:
    """Return the event for what was trained in `window`, which ends after `step` batches of this epoch."""
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
    )


def epoch_completed(
    progress: Progress, train: Sums, val: Sums, *, lr: float, seconds: float, is_best: bool, partial: bool
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
        lr=lr,
        seconds=seconds,
        is_best=is_best,
        partial=partial,
    )


def run_finished(progress: Progress, num_stages: int, stop_reason: str, early: str, test: Sums | None) -> RunFinished:
    """Return the last event of a run that came to its end, for a reason that is `early` or not, or was stopped."""
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
    )
