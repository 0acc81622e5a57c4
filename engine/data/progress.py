"""Progress of a long preparation as DataProgressed events, ten times a second at most."""

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from engine.journal.events import DataProgressed

Report: TypeAlias = Callable[[DataProgressed], None]
"""Takes an event. It may raise, to end the preparation early; nothing half-written may then be left."""

_INTERVAL_S = 0.1


class LoadProgress:
    """Progress of one phase, reported at its start, during it, and at its end."""

    def __init__(
        self,
        report: Report,
        phase: Literal["download", "verify", "unpack", "decode", "generate", "features"],
        unit: Literal["B", "images"],
        what: str,
        total: int = 0,
    ) -> None:
        self.total = total
        self.done = 0
        self._report = report
        self._phase = phase
        self._unit = unit
        self._what = what
        self._emit()

    def move_to(self, done: int) -> None:
        """Set the amount done so far."""
        self.done = done
        if time.monotonic() - self._emitted_at >= _INTERVAL_S:
            self._emit()

    def advance(self, amount: int) -> None:
        """Add to the amount done."""
        self.move_to(self.done + amount)

    def finish(self) -> None:
        """Report the end."""
        self.total = self.total or self.done
        self.done = self.total
        self._emit()

    def _emit(self) -> None:
        self._emitted_at = time.monotonic()
        self._report(
            DataProgressed(phase=self._phase, done=self.done, total=self.total, unit=self._unit, what=self._what)
        )
