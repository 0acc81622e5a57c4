"""A long curve in columns: half a million points in 20 MB, where a list of objects would take a hundred.

Reads like a list of `StepPoint`; knows nothing of events.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from msgspec import Struct


class StepPoint(Struct, frozen=True):
    """Training metrics at one place. `epoch` is fractional: 1.5 is half-way through the second."""

    global_step: int
    epoch: float
    time: float
    loss: float
    top1: float


class StepSeries(Sequence[StepPoint]):
    """Points in the order of their steps. `version` changes whenever points were taken away."""

    def __init__(self) -> None:
        self.global_step = array("q")
        self.epoch = array("d")
        self.time = array("d")
        self.loss = array("d")
        self.top1 = array("d")
        self.version = 0

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
            self.global_step[index], self.epoch[index], self.time[index], self.loss[index], self.top1[index]
        )

    def __iter__(self) -> Iterator[StepPoint]:
        return map(StepPoint, self.global_step, self.epoch, self.time, self.loss, self.top1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StepSeries) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def append(self, point: StepPoint) -> None:
        """Add a point behind the last one."""
        self.global_step.append(point.global_step)
        self.epoch.append(point.epoch)
        self.time.append(point.time)
        self.loss.append(point.loss)
        self.top1.append(point.top1)

    def cut_after(self, global_step: int) -> None:
        """Take away the points behind `global_step`: they were lost with a worker, and will come again."""
        end = bisect_right(self.global_step, global_step)
        if end == len(self):
            return
        for column in (self.global_step, self.epoch, self.time, self.loss, self.top1):
            del column[end:]
        self.version += 1
