"""When training ends before its last epoch because the preset says so: time is up, or it has stopped getting better."""

from engine.training.progress import Progress
from presets.schema import Train


def spent(train: Train, progress: Progress, epoch_s: float) -> float:
    """Return the share of `train.max_minutes` that is over, `epoch_s` into the epoch; 0 where there is no limit."""
    if train.max_minutes is None:
        return 0.0
    return (progress.trained_seconds + epoch_s) / (60 * train.max_minutes)


def seconds_left(train: Train, progress: Progress, epoch_s: float) -> float | None:
    """Return what is left of `train.max_minutes`; None where there is no limit."""
    if train.max_minutes is None:
        return None
    return max(0.0, 60 * train.max_minutes * (1 - spent(train, progress, epoch_s)))


def why_stage_ends(train: Train, progress: Progress, epoch_s: float) -> str:
    """Return why no further epoch of the stage is begun, as a clause; empty where one is."""
    if spent(train, progress, epoch_s) >= 1:
        minutes = "minute" if train.max_minutes == 1 else f"{train.max_minutes:g} minutes"
        return f"the {minutes} of train.max_minutes are over"
    best = progress.stage_best_epoch
    if train.patience is not None and best is not None and progress.num_epochs - best >= train.patience:
        epochs = "an epoch" if train.patience == 1 else f"{train.patience} epochs"
        return f"the best validation accuracy, of epoch {best}, did not rise for {epochs} (train.patience)"
    return ""
