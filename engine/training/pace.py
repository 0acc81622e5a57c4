"""When the journal hears of training, and how fast training is. Knows time; no tensors, no files."""

import time
from typing import NamedTuple

from engine.training.metrics import Sums


class Window(NamedTuple):
    """What was trained between two reports."""

    sums: Sums
    num_steps: int
    images_per_s: float

    def steps(self, last: int) -> str:
        """Return which batches of the epoch these were, in words, given the `last` of them."""
        first = last - self.num_steps + 1
        return f"step {last}" if first >= last else f"between the steps {first} and {last}"


class Pace:
    """Reports ten times a second at first, and less often as an epoch grows long, down to every two seconds.

    Curves of a day's run then stay as small as they can be drawn, and a short run is still lively.
    """

    SHORTEST_S = 0.1
    LONGEST_S = 2.0
    SHARE = 1 / 300
    """Of an epoch's length so far: an epoch of a minute ends with a report every 0.2 s."""

    def __init__(self, start: Sums, step: int) -> None:
        self._began = self._taken_at = time.monotonic()
        self._sums = start
        self._step = step

    def is_due(self) -> bool:
        """Return whether it is time for the next report."""
        now = time.monotonic()
        interval = min(self.LONGEST_S, max(self.SHORTEST_S, (now - self._began) * self.SHARE))
        return now - self._taken_at >= interval

    def skip(self, seconds: float) -> None:
        """Leave time out in which nothing was trained."""
        self._began += seconds
        self._taken_at += seconds

    def take(self, sums: Sums, step: int) -> Window | None:
        """Return what came since the last report, up to `sums` and `step`; None where that is nothing."""
        new = sums.since(self._sums)
        if new.num_images <= 0:  # or they set off before the last report, and arrive behind it
            return None
        now = time.monotonic()
        seconds, num_steps = now - self._taken_at, step - self._step
        self._taken_at, self._sums, self._step = now, sums, step
        return Window(new, num_steps, new.num_images / seconds if seconds > 0 else 0.0)
