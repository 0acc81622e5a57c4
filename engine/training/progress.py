"""Where training is, in numbers that a checkpoint can hold. Knows no tensors and no files."""

import msgspec

from engine.training.metrics import Sums


class Progress(msgspec.Struct):
    """Where training is. Saved in every checkpoint."""

    stage: int = 0
    """Under way, from 0; the number of stages when all are trained."""
    stage_first_epoch: int = 1
    stage_best_val_top1: float | None = None
    stage_best_epoch: int | None = None
    epoch: int = 1
    """Under way, counted through all stages."""
    step: int = 0
    """Batches trained in it."""
    global_step: int = 0
    epoch_sums: Sums = Sums(0.0, 0, 0)
    epoch_seconds: float = 0.0
    """Of the epoch under way, when it was last written down."""
    trained_seconds: float = 0.0
    """Of the epochs before it."""
    best_epoch: int | None = None
    best_val_top1: float | None = None
    at_once: int | None = None
    """Images through the network at once; fewer than a batch where memory ran out."""

    @property
    def num_epochs(self) -> int:
        """Epochs trained so far, one that is begun included."""
        return self.epoch if self.step else self.epoch - 1

    def next_epoch(self) -> None:
        """Move on to the beginning of the next epoch."""
        self.trained_seconds += self.epoch_seconds
        self.epoch, self.step = self.epoch + 1, 0
        self.epoch_sums, self.epoch_seconds = Sums(0.0, 0, 0), 0.0

    def note_best(self, val_top1: float) -> tuple[bool, bool]:
        """Take in how well the epoch under way was validated; return whether that is the run's and the stage's best."""
        is_best = self.best_val_top1 is None or val_top1 > self.best_val_top1
        is_stage_best = self.stage_best_val_top1 is None or val_top1 > self.stage_best_val_top1
        if is_best:
            self.best_epoch, self.best_val_top1 = self.epoch, val_top1
        if is_stage_best:
            self.stage_best_epoch, self.stage_best_val_top1 = self.epoch, val_top1
        return is_best, is_stage_best


def num_batches(num_images: int, batch_size: int) -> int:
    """Return the batches of an epoch; a last batch of one image is left out, since BatchNorm cannot use it."""
    full, rest = divmod(num_images, batch_size)
    return full + (rest > 1 or full == 0)
