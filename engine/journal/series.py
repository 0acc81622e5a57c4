"""Columnar curve of training metrics: a quarter of a million points in 19 MB, a fifth of a list of objects.

A sequence of `StepPoint`. Of a run with more reports the older ones are thinned, evenly over the run: what a plot can
show stays, its memory is bounded. Every point is weighted by the images that it stands for.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import mul
from typing import Any, Literal, TypeAlias, overload

from msgspec import Struct

from engine.journal.events import StepsTrained

MOST_POINTS = 1 << 18
"""Ten hours of reports at six a second: a plot has some hundreds of columns."""
_SLOTS = 256
"""Slots of a block. One report of each slot is kept (the last), and the extremes of each block: so means stay what
they are, and no peak is lost."""


class StepPoint(Struct, frozen=True):
    """Training metrics at one step. `epoch` is fractional: 1.5 is half-way through the second."""

    global_step: int
    epoch: float
    time: float
    loss: float
    top1: float
    num_images: int = 1
    """Images of the report; of a thinned curve, those of the reports that it stands for too."""
    lr: float | None = None
    """None if a host of a version before sent the curve."""
    grad_norm: float | None = None
    """Of the gradient before it is clipped; None where the journal does not have it."""
    clipped: float = 0.0
    """Fraction of the batches whose gradients were clipped."""


Series: TypeAlias = Literal["loss", "top1", "lr", "grad_norm", "clipped"]
COLUMNS = ("global_step", "epoch", "time", "loss", "top1", "num_images", "lr", "grad_norm", "clipped")
_AVERAGED = ("loss", "top1", "grad_norm", "clipped")
"""Of a light report, means that scatter; all are merged with its predecessor's."""
_PEAKED = ("loss", "top1", "grad_norm")
"""Their extremes stay in a thinned curve."""


def without_light(values: Sequence[float], num_images: Sequence[float]) -> list[float]:
    """Return `values` with every light report merged with its predecessor: both are their mean weighted by images.

    Light is a report with fewer than half the images of its predecessor, such as the last batch of an epoch: its mean
    scatters too far to be drawn by itself. One that is no finite number stays as it is, and counts in no mean.

    Args:
        values: means of consecutive reports.
        num_images: of each report, at least 1.
    """
    merged = list(values)
    if not merged or 2 * min(num_images) >= max(num_images):
        return merged
    start = 0
    for end in range(1, len(merged) + 1):
        if end < len(merged) and 2 * num_images[end] < num_images[end - 1]:
            continue
        finite = [index for index in range(start, end) if math.isfinite(merged[index])]
        if len(finite) > 1:
            mean = sum(merged[index] * num_images[index] for index in finite) / sum(num_images[at] for at in finite)
            for index in finite:
                merged[index] = mean
        start = end
    return merged


def _known(value: float) -> float | None:
    """Return a value of a column, where NaN stands for none."""
    return None if math.isnan(value) else value


class StepSeries(Sequence[StepPoint]):
    """Points in the order of their steps. `version` changes whenever points were taken away."""

    def __init__(self, most: int | None = MOST_POINTS) -> None:
        """Keep at most so many points; all of them with None."""
        self.global_step = array("q")
        self.epoch = array("d")
        self.time = array("d")
        self.loss = array("d")
        self.top1 = array("d")
        self.num_images = array("d")
        """As floats: the sum of a damaged journal's may be beyond 64 bits."""
        self.lr = array("d")
        self.grad_norm = array("d")
        """NaN for none, as in `lr`."""
        self.clipped = array("d")
        self.version = 0
        self.num_reports = 0
        """Reports that were added and not cut off; some may be thinned out."""
        self.most = most
        self.slot_steps = 1
        """Batches in a slot."""
        self.num_thinned = 0
        """Number of points, from the first on, that are thinned."""

    def __len__(self) -> int:
        return len(self.global_step)

    @overload
    def __getitem__(self, index: int) -> StepPoint: ...
    @overload
    def __getitem__(self, index: slice) -> list[StepPoint]: ...
    def __getitem__(self, index: int | slice) -> StepPoint | list[StepPoint]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return StepPoint(
            self.global_step[index], self.epoch[index], self.time[index], self.loss[index], self.top1[index],
            int(self.num_images[index]), _known(self.lr[index]), _known(self.grad_norm[index]), self.clipped[index],
        )  # fmt: skip

    def __iter__(self) -> Iterator[StepPoint]:
        return map(
            StepPoint, self.global_step, self.epoch, self.time, self.loss, self.top1, map(int, self.num_images),
            map(_known, self.lr), map(_known, self.grad_norm), self.clipped,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepSeries):
            return NotImplemented
        return [column.tobytes() for column in self._columns()] == [column.tobytes() for column in other._columns()]

    __hash__ = None  # type: ignore[assignment]

    def extend(self, events: Sequence[StepsTrained], steps_per_epoch: int) -> None:
        """Append the metrics of events of one stage, in their order."""
        start = 0
        while start < len(events):  # thinned at the same points, however many come at once
            end = len(events) if self.most is None else start + max(1, self.most - len(self))
            self._append(events[start:end], steps_per_epoch)
            if self.most is not None and len(self) >= self.most:
                self.thin(self.most)
            start = end

    def _append(self, events: Sequence[StepsTrained], steps_per_epoch: int) -> None:
        # faster than array.extend, which takes whatever can be iterated
        self.global_step.fromlist([event.global_step for event in events])
        self.epoch.fromlist([event.epoch - 1 + event.step / steps_per_epoch for event in events])
        self.time.fromlist([event.time for event in events])
        self.loss.fromlist([event.loss for event in events])
        self.top1.fromlist([event.top1 for event in events])
        self.num_images.fromlist([max(1, event.num_images) for event in events])
        self.lr.fromlist([event.lr for event in events])
        self.grad_norm.fromlist([math.nan if event.grad_norm is None else event.grad_norm for event in events])
        self.clipped.fromlist([event.clipped for event in events])
        self.num_reports += len(events)

    def share_clipped(self, last: int = 0) -> float | None:
        """Return the fraction of the batches whose gradients were clipped, in the last so many reports; 0: in all."""
        weights = self.num_images[-last:]
        return sum(map(mul, self.clipped[-last:], weights)) / sum(weights) if weights else None

    def cut_after(self, global_step: int) -> None:
        """Remove the points after `global_step`: their steps were lost with a worker, and are trained again."""
        end = bisect_right(self.global_step, global_step)
        if end == len(self):
            return
        exact = len(self) - max(end, self.num_thinned)
        self.num_reports -= exact
        if end < self.num_thinned:  # how many reports were between two points is not known any more
            self.num_reports = round(self.num_reports * end / self.num_thinned)
            self.num_thinned = end
        for column in self._columns():
            del column[end:]
        self.version += 1

    def _columns(self) -> "tuple[array[Any], ...]":
        return tuple([getattr(self, name) for name in COLUMNS])

    def shown(self, metric: Series, start: int, end: int) -> tuple[list[float], list[float]]:
        """Return the values between two places as a plot shows them, without light reports, and their images."""
        first, last = start, end
        while self._is_light(first):
            first -= 1
        while self._is_light(last):
            last += 1
        values, num_images = getattr(self, metric)[first:last].tolist(), self.num_images[first:last].tolist()
        exact = max(0, self.num_thinned - first)
        if metric in _AVERAGED:
            values[exact:] = without_light(values[exact:], num_images[exact:])
        return values[start - first : end - first], num_images[start - first : end - first]

    def _is_light(self, index: int) -> bool:
        """Return true if a report is one to merge with its predecessor; in the thinned part they are merged already."""
        return self.num_thinned < index < len(self) and 2 * self.num_images[index] < self.num_images[index - 1]

    def thin(self, most: int) -> None:
        """Thin all but the newest quarter to at most half of `most` points."""
        end = len(self) - most // 4
        while self._is_light(end):  # it stays beside its predecessor
            end -= 1
        start, num_images = self.num_thinned, self.num_images[self.num_thinned : end]
        for name in _AVERAGED:
            values = getattr(self, name)
            values[start:end] = array("d", without_light(values[start:end], num_images))
        end = self._keep(self.num_thinned, end)
        while end > most // 2:
            self.slot_steps *= 2
            end = self._keep(0, end)
        self.num_thinned = end
        self.version += 1

    def _keep(self, start: int, end: int) -> int:
        """Keep the last point of each slot and the extremes of each block between two places; return the new end.

        The last point of a slot takes over the images of those that are left out.
        """
        kept: list[int] = []
        first = start
        while first < end:
            last = self._end_of(first, end, self.slot_steps * _SLOTS)
            extremes = set[int]()
            for name in _PEAKED:
                values = getattr(self, name)[first:last]
                known = [value for value in values if value == value]
                extremes |= {first + values.index(value) for value in {min(known), max(known)}} if known else set()
            lasts = set[int]()
            while first < last:
                beginning, first = first, self._end_of(first, last, self.slot_steps)
                if left_out := set(range(beginning, first - 1)) - extremes:
                    self.num_images[first - 1] += sum(self.num_images[index] for index in left_out)
                lasts.add(first - 1)
            kept += sorted(extremes | lasts)
        for column in self._columns():
            column[start:end] = array(column.typecode, [column[index] for index in kept])
        return start + len(kept)

    def _end_of(self, index: int, end: int, width: int) -> int:
        """Return where the slot or block of so many batches ends in which a point is."""
        beyond = (self.global_step[index] // width + 1) * width
        return bisect_left(self.global_step, beyond, index, end)
