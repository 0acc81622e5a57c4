"""How far a long preparation is: DataProgressed, ten times a second at most. Knows no data."""

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from engine.journal.events import DataProgressed

Report: TypeAlias = Callable[[DataProgressed], None]
"""Takes an event. It may raise, to end the preparation early; nothing half-written may then be left."""

_INTERVAL_S = 0.1


class LoadProgress:
    """One phase of one preparation, reported at its start, while it goes on, and at its end."""

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
        """State how much is done by now."""
        self.done = done
        if time.monotonic() - self._emitted_at >= _INTERVAL_S:
            self._emit()

    def advance(self, amount: int) -> None:
        """State that so much more is done."""
        self.move_to(self.done + amount)

    def finish(self) -> None:
        """State that all is done."""
        self.total = self.total or self.done
        self.done = self.total
        self._emit()

    def _emit(self) -> None:
        self._emitted_at = time.monotonic()
        self._report(
            DataProgressed(phase=self._phase, done=self.done, total=self.total, unit=self._unit, what=self._what)
        )
