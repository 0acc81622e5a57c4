"""Live line: one line at the bottom of a terminal, redrawn in place, below lines that stay. No runs.

The hidden cursor rests at the line's beginning: where a narrowed terminal wraps what was drawn, it rests at the
first of the rows, and clearing from there on clears them all.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TextIO

from typing_extensions import Self

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_TO_LINE_END, _TO_SCREEN_END = "\x1b[K", "\x1b[J"
_SHORTEST_S = 0.2


class LiveLine:
    """A context manager: the cursor is hidden inside, and there again behind it, however it is left."""

    def __init__(
        self, stream: TextIO, on_resize: Callable[[], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on `stream`; `on_resize` is called in a signal handler, for the owner to draw again soon."""
        self._stream, self._on_resize, self._clock = stream, on_resize, clock
        self._drawn = ""
        self._drawn_at = -_SHORTEST_S
        self._is_stale = False
        self._is_hiding = False
        self._before: dict[int, object] = {}

    @property
    def columns(self) -> int:
        """Columns that a line may take: one less than there are, or the cursor would move to the next row."""
        try:
            return (os.get_terminal_size(self._stream.fileno()).columns or 80) - 1
        except (OSError, ValueError):
            return 79

    def __enter__(self) -> Self:
        for number, handler in ((signal.SIGWINCH, self._resized), (signal.SIGTSTP, self._suspend)):
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._is_hiding:
            with suppress(OSError):  # a terminal that is gone has no cursor
                self._write(self._cleared() + _SHOW_CURSOR)

    def show(self, draw: Callable[[int], str], *, at_once: bool = False) -> None:
        """Draw the line that `draw` makes of so many columns, if it is another.

        Nothing is drawn if the last drawing is too fresh, unless `at_once`: for lines that come seldom.
        """
        now = self._clock()
        if not at_once and now - self._drawn_at < _SHORTEST_S:
            return
        is_stale, self._is_stale = self._is_stale, False  # before measuring: a resize from here on counts again
        line = draw(self.columns)
        if line == self._drawn and not is_stale:
            return
        self._is_hiding = True
        start = _TO_SCREEN_END if is_stale else ""
        self._write(f"{_HIDE_CURSOR}\r{start}{line}{_TO_LINE_END}\r")
        self._drawn, self._drawn_at = line, now

    def keep(self, line: str) -> None:
        """Print a line that stays, above the one that is kept up to date."""
        drawn = "" if self._is_stale else self._drawn
        self._write(f"{self._cleared()}{line}\n{drawn}\r")
        self._drawn = drawn

    def clear(self) -> None:
        """Take the line away until it is drawn again."""
        self._write(self._cleared())

    def _cleared(self) -> str:
        self._drawn, self._is_stale = "", False
        return f"\r{_TO_SCREEN_END}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stale = True
        self._on_resize()

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        """Let Ctrl-Z stop the process with the cursor to be seen, and draw again when it goes on."""
        # Not through the stream: the signal may have come in the middle of a write to it.
        os.write(self._stream.fileno(), f"\r{_TO_SCREEN_END}{_SHOW_CURSOR}".encode())
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
        os.write(self._stream.fileno(), _HIDE_CURSOR.encode())
        self._is_stale = True
        self._on_resize()
