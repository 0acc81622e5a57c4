"""A long curve in columns: half a million points in 20 MB, where a list of objects would take a hundred.

Reads like a list of `StepPoint`.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from msgspec import Struct

from engine.journal.events import StepsTrained


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

    def extend(self, events: Sequence[StepsTrained], steps_per_epoch: int) -> None:
        """Add what events of one stage tell, in their order."""
        # faster than array.extend, which takes whatever can be iterated
        self.global_step.fromlist([event.global_step for event in events])
        self.epoch.fromlist([event.epoch - 1 + event.step / steps_per_epoch for event in events])
        self.time.fromlist([event.time for event in events])
        self.loss.fromlist([event.loss for event in events])
        self.top1.fromlist([event.top1 for event in events])

    def cut_after(self, global_step: int) -> None:
        """Take away the points behind `global_step`: they were lost with a worker, and will come again."""
        end = bisect_right(self.global_step, global_step)
        if end == len(self):
            return
        for column in (self.global_step, self.epoch, self.time, self.loss, self.top1):
            del column[end:]
        self.version += 1
