"""Progress of training in plain numbers for checkpoints, and early stopping. No tensors, no files."""

from typing import Literal

import msgspec

from engine.journal.events import Flops
from engine.training.metrics import Sums
from presets.schema import BestBy, Train


class Progress(msgspec.Struct):
    """Position of training in its plan. Saved in every checkpoint."""

    stage: int = 0
    """Current stage, from 0; the number of stages when all are trained."""
    stage_first_epoch: int = 1
    stage_best_val_top1: float | None = None
    stage_best_val_balanced: float | None = None
    stage_best_epoch: int | None = None
    epoch: int = 1
    """Current epoch, from 1 through all stages."""
    step: int = 0
    """Batches trained in it."""
    global_step: int = 0
    epoch_sums: Sums = Sums(0.0, 0, 0)
    epoch_seconds: float = 0.0
    """Seconds of the current epoch at the last checkpoint."""
    trained_seconds: float = 0.0
    """Seconds of the epochs before it."""
    best_epoch: int | None = None
    best_val_top1: float | None = None
    best_val_balanced: float | None = None
    at_once: int | None = None
    """Micro-batch size; smaller than a batch if memory ran out."""
    flops: Flops | None = None
    """Spent so far; None if they are not counted, as in a run that was begun before they were."""

    @property
    def num_epochs(self) -> int:
        """Epochs trained so far, one that is begun included."""
        return self.epoch if self.step else self.epoch - 1

    def spend(self, train: float = 0.0, optimizer: float = 0.0, evaluation: float = 0.0) -> None:
        """Add FLOPs to those spent, if they are counted."""
        if (spent := self.flops) is not None:
            self.flops = Flops(
                train=spent.train + train,
                optimizer=spent.optimizer + optimizer,
                evaluation=spent.evaluation + evaluation,
            )

    def next_epoch(self) -> None:
        """Move on to the beginning of the next epoch."""
        self.trained_seconds += self.epoch_seconds
        self.epoch, self.step = self.epoch + 1, 0
        self.epoch_sums, self.epoch_seconds = Sums(0.0, 0, 0), 0.0

    def scale_epoch(self, num_steps: int, before: int, batch_size: int) -> None:
        """Keep the fraction of the current epoch that is trained, if it now has `num_steps` batches, not `before`.

        Its sums are scaled too, so that their means stay.
        """
        if num_steps == before:
            return
        self.step = self.step * num_steps // before
        loss, hits, num_images = self.epoch_sums[:3]
        if num_images:
            share = self.step * batch_size / num_images
            self.epoch_sums = Sums(loss * share, int(hits * share), self.step * batch_size)

    def best_scores(self, best_by: BestBy) -> tuple[float | None, float | None]:
        """Return the best accuracy of the run and of the stage, of the kind that decides; None if there is none."""
        if best_by == "val_balanced":
            return self.best_val_balanced, self.stage_best_val_balanced
        return self.best_val_top1, self.stage_best_val_top1

    def note_best(
        self, val_top1: float, val_balanced: float | None = None, best_by: BestBy = "val_top1"
    ) -> tuple[bool, bool]:
        """Note the current epoch's validation accuracies; return true if it is the run's, and the stage's, best.

        Args:
            val_top1: top-1 accuracy.
            val_balanced: balanced accuracy; None if it was not measured.
            best_by: the one that decides.
        """
        score = val_balanced if best_by == "val_balanced" else val_top1
        best, stage_best = self.best_scores(best_by)
        is_best = best is None or (score is not None and score > best)
        is_stage_best = stage_best is None or (score is not None and score > stage_best)
        if is_best:
            self.best_epoch, self.best_val_top1, self.best_val_balanced = self.epoch, val_top1, val_balanced
        if is_stage_best:
            self.stage_best_epoch = self.epoch
            self.stage_best_val_top1, self.stage_best_val_balanced = val_top1, val_balanced
        return is_best, is_stage_best

    def take_best(self, val_top1: float, val_balanced: float | None = None) -> None:
        """Note the accuracy of the best weights on other validation images; a stage with another best one has none."""
        if self.stage_best_epoch == self.best_epoch:
            self.stage_best_val_top1, self.stage_best_val_balanced = val_top1, val_balanced
        else:
            self.forget_best("stage-best")
        self.best_val_top1, self.best_val_balanced = val_top1, val_balanced

    def forget_best(self, kind: Literal["best", "stage-best"]) -> None:
        """Forget the best accuracies of the run or of the stage: the weights validated next are the best."""
        if kind == "best":
            self.best_epoch, self.best_val_top1, self.best_val_balanced = None, None, None
        else:
            self.stage_best_epoch, self.stage_best_val_top1, self.stage_best_val_balanced = None, None, None


def num_batches(num_images: int, batch_size: int) -> int:
    """Return the batches of an epoch; a last batch of one image is left out, since BatchNorm cannot use it."""
    full, rest = divmod(num_images, batch_size)
    return full + (rest > 1 or full == 0)


def spent(train: Train, progress: Progress, epoch_s: float) -> float:
    """Return the share of `train.max_minutes` that is over, `epoch_s` into the epoch; 0 without a limit."""
    if train.max_minutes is None:
        return 0.0
    return (progress.trained_seconds + epoch_s) / (60 * train.max_minutes)


def seconds_left(train: Train, progress: Progress, epoch_s: float) -> float | None:
    """Return the seconds left of `train.max_minutes`; None without a limit."""
    if train.max_minutes is None:
        return None
    return max(0.0, 60 * train.max_minutes * (1 - spent(train, progress, epoch_s)))


def why_stage_ends(train: Train, progress: Progress, epoch_s: float) -> str:
    """Return the reason to end the stage early, as a clause; empty if there is none."""
    if spent(train, progress, epoch_s) >= 1:
        minutes = "minute" if train.max_minutes == 1 else f"{train.max_minutes:g} minutes"
        return f"the {minutes} of train.max_minutes are over"
    best = progress.stage_best_epoch
    if train.patience is not None and best is not None and progress.num_epochs - best >= train.patience:
        epochs = "an epoch" if train.patience == 1 else f"{train.patience} epochs"
        return f"the best validation accuracy, of epoch {best}, did not rise for {epochs} (train.patience)"
    return ""
