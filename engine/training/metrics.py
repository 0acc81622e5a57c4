"""Loss and accuracy summed on the device, and read without making it wait. No events, no files."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.training.parallel import Parallel
from presets.schema import BestBy

_NUM_SUMS = 5
"""Numbers that `Meter` copies from the device: loss, hits, norms, steps clipped, and steps skipped."""


class Sums(NamedTuple):
    """Totals over images.

    Attributes:
        loss: summed loss.
        hits: number of correct predictions.
        num_images: number of images.
        balanced: balanced accuracy, the mean of the classes' recalls; None if it was not counted.
        norms: summed norms of the gradients, one of each step.
        num_norms: number of steps whose norms are in it.
        num_clipped: number of those whose gradients were clipped.
    """

    loss: float
    hits: int
    num_images: int
    balanced: float | None = None
    norms: float = 0.0
    num_norms: int = 0
    num_clipped: int = 0

    def mean_loss(self) -> float:
        """Return the loss per image; NaN where there were none."""
        return self.loss / self.num_images if self.num_images else float("nan")

    def top1(self) -> float:
        """Return the fraction of correct predictions; NaN where there were none."""
        return self.hits / self.num_images if self.num_images else float("nan")

    def mean_norm(self) -> float | None:
        """Return the mean norm of the gradients; None where there are none, or one of them was no finite number."""
        return self.norms / self.num_norms if self.num_norms and math.isfinite(self.norms) else None

    def share_clipped(self) -> float:
        """Return the fraction of the steps whose gradients were clipped; 0 where there are none."""
        return self.num_clipped / self.num_norms if self.num_norms else 0.0

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
        return Sums(
            self.loss - earlier.loss,
            self.hits - earlier.hits,
            self.num_images - earlier.num_images,
            norms=self.norms - earlier.norms,
            num_norms=self.num_norms - earlier.num_norms,
            num_clipped=self.num_clipped - earlier.num_clipped,
        )


class GradientNorm(NamedTuple):
    """Euclidean norm of a step's gradient, over all weights that it trains: scalars on the device.

    Attributes:
        value: before it is clipped, float32; 0 where the step is skipped.
        is_clipped: true if it was; None where nothing is clipped.
        is_skipped: true if the gradient scaler of fp16 leaves the step out; None without one.
    """

    value: Tensor
    is_clipped: Tensor | None
    is_skipped: Tensor | None


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
            start = Sums(0.0, 0, start.num_images, num_norms=start.num_norms)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.full((), start.loss, dtype=dtype, device=device)  # torch.tensor would wait for a copy
        self._hits = torch.full((), start.hits, dtype=torch.int64, device=device)
        self._num_images = start.num_images
        self.class_hits = torch.zeros(num_classes, dtype=torch.int32, device=device) if num_classes else None
        """Correct predictions of each class in this rank's part: int32 [C]."""
        self._norms = torch.full((), start.norms, dtype=dtype, device=device)
        self._num_clipped = torch.full((), start.num_clipped, dtype=torch.int64, device=device)
        self._num_skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._num_norms = start.num_norms
        self._landing = torch.zeros(_NUM_SUMS, dtype=dtype, pin_memory=device.type == "cuda")
        self._landed: Any = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._pending: tuple[int, int] | None = None
        """Images and steps of the sums on their way."""

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, num_images: int | None = None) -> None:
        """Add a batch, or this rank's part of one.

        Args:
            loss: mean loss of the part, a scalar on the device.
            logits: [B, C], any float type.
            labels: int64 [B].
            num_images: images of the whole batch; B if left out.
        """
        right = is_hit(logits, labels)
        if self.class_hits is not None and len(labels):
            self.class_hits.index_add_(0, labels, right.to(torch.int32))
        self.add_sums(loss, right.sum(), len(labels), len(labels) if num_images is None else num_images)

    def add_sums(self, loss: Tensor, hits: Tensor, num_own: int, num_images: int) -> None:
        """Add a batch of which loss and hits are known.

        Args:
            loss: mean loss of this rank's part, a scalar on the device.
            hits: number of correct predictions in it, int64, a scalar on the device.
            num_own: images of the part; loss and hits of none do not count.
            num_images: images of the whole batch.
        """
        if num_own:
            self._loss.add_(loss.detach(), alpha=num_own)
            self._hits.add_(hits)
        self._num_images += num_images

    def add_norm(self, norm: GradientNorm) -> None:
        """Add the norm of a step's gradient, which is the same in every rank."""
        self._num_norms += 1
        if not self._parallel.is_first:
            return
        self._norms.add_(norm.value)
        if norm.is_clipped is not None:
            self._num_clipped.add_(norm.is_clipped)
        if norm.is_skipped is not None:
            self._num_skipped.add_(norm.is_skipped)

    @property
    def is_pending(self) -> bool:
        """True if a copy started by `request` was not returned yet."""
        return self._pending is not None

    def request(self) -> None:
        """Start a copy of the sums over all ranks as they are now, in place of one that is on its way."""
        self._landing.copy_(self._total(), non_blocking=self._landed is not None)
        if self._landed is not None:
            self._landed.record()
        self._pending = self._num_images, self._num_norms

    def arrived(self) -> Sums | None:
        """Return the sums asked for by `request` once they are here, else None."""
        if self._pending is None or (self._landed is not None and not self._landed.query()):
            return None
        found, self._pending = _sums(self._landing, *self._pending), None
        return found

    def read(self) -> Sums:
        """Return the sums over all ranks now, waiting for the device."""
        return _sums(self._total(), self._num_images, self._num_norms)

    def _total(self) -> Tensor:
        parts = (self._loss, self._hits, self._norms, self._num_clipped, self._num_skipped)
        return self._parallel.reduce(torch.stack(parts))


def _sums(total: Tensor, num_images: int, num_steps: int) -> Sums:
    """Return the sums of the tensor that `Meter._total` makes, waiting for it."""
    loss, hits, norms, num_clipped, num_skipped = total.tolist()
    num_norms = num_steps - int(num_skipped)
    return Sums(loss, int(hits), num_images, norms=norms, num_norms=num_norms, num_clipped=int(num_clipped))


def is_hit(logits: Tensor, labels: Tensor) -> Tensor:
    """Return true where the largest of `logits` [B, C] is that of the label (int64 [B]): bool [B]."""
    return logits.argmax(1) == labels
