"""Loss and accuracy summed on the device, and read without making it wait. No events, no files."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.training.parallel import Parallel
from presets.schema import BestBy


class Sums(NamedTuple):
    """Totals over images.

    Attributes:
        loss: summed loss.
        hits: number of correct predictions.
        num_images: number of images.
        balanced: balanced accuracy, the mean of the classes' recalls; None if it was not counted.
    """

    loss: float
    hits: int
    num_images: int
    balanced: float | None = None

    def mean_loss(self) -> float:
        """Return the loss per image; NaN where there were none."""
        return self.loss / self.num_images if self.num_images else float("nan")

    def top1(self) -> float:
        """Return the fraction of correct predictions; NaN where there were none."""
        return self.hits / self.num_images if self.num_images else float("nan")

    def score(self, by: BestBy) -> float:
        """Return the accuracy that decides which weights are best; NaN if it was not counted."""
        if by == "val_top1":
            return self.top1()
        return self.balanced if self.balanced is not None else float("nan")

    def is_finite(self) -> bool:
        """Return whether the loss is still a number."""
        return math.isfinite(self.loss)

    def since(self, earlier: "Sums") -> "Sums":
        """Return what was added after `earlier` was read."""
        return Sums(self.loss - earlier.loss, self.hits - earlier.hits, self.num_images - earlier.num_images)


class Meter:
    """Sums of an epoch or an evaluation, kept on the device; with several ranks, each its part of them.

    `add` never waits for the device. `request` starts a copy to pinned memory and `arrived` hands it
    over once it is there (`request` waits for it where there are no CUDA events); `read` waits. Sums
    are float64 (float32 on MPS, which has no float64), so the difference of two readings is as good as a sum of its
    own.
    """

    def __init__(
        self,
        device: torch.device,
        start: Sums | None = None,
        parallel: Parallel | None = None,
        num_classes: int = 0,
    ) -> None:
        """Begin with the sums of `start`; count the hits of each class too if `num_classes` is not 0."""
        start, self._parallel = start or Sums(0.0, 0, 0), parallel or Parallel()
        if not self._parallel.is_first:  # sums over the ranks, which rank 0 has
            start = Sums(0.0, 0, start.num_images)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.full((), start.loss, dtype=dtype, device=device)  # torch.tensor would wait for a copy
        self._hits = torch.full((), start.hits, dtype=torch.int64, device=device)
        self._num_images = start.num_images
        self.class_hits = torch.zeros(num_classes, dtype=torch.int32, device=device) if num_classes else None
        """Correct predictions of each class in this rank's part: int32 [C]."""
        self._landing = torch.zeros(2, dtype=dtype, pin_memory=device.type == "cuda")
        self._landed: Any = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._pending: int | None = None

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, num_images: int | None = None) -> None:
        """Add a batch, or this rank's part of one.

        Args:
            loss: mean loss of the part, a scalar on the device.
            logits: [B, C], any float type.
            labels: int64 [B].
            num_images: images of the whole batch; B if left out.
        """
        if len(labels):
            self._loss.add_(loss.detach(), alpha=len(labels))
            is_hit = logits.argmax(1) == labels
            self._hits.add_(is_hit.sum())
            if self.class_hits is not None:
                self.class_hits.index_add_(0, labels, is_hit.to(torch.int32))
        self._num_images += len(labels) if num_images is None else num_images

    @property
    def is_pending(self) -> bool:
        """True if a copy started by `request` was not returned yet."""
        return self._pending is not None

    def request(self) -> None:
        """Start a copy of the sums over all ranks as they are now, in place of one that is on its way."""
        self._landing.copy_(self._total(), non_blocking=self._landed is not None)
        if self._landed is not None:
            self._landed.record()
        self._pending = self._num_images

    def arrived(self) -> Sums | None:
        """Return the sums asked for by `request` once they are here, else None."""
        if self._pending is None or (self._landed is not None and not self._landed.query()):
            return None
        loss, hits = self._landing.tolist()
        num_images, self._pending = self._pending, None
        return Sums(loss, int(hits), num_images)

    def read(self) -> Sums:
        """Return the sums over all ranks now, waiting for the device."""
        loss, hits = self._total().tolist()
        return Sums(loss, int(hits), self._num_images)

    def _total(self) -> Tensor:
        return self._parallel.reduce(torch.stack((self._loss, self._hits)))
