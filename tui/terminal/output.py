"""Output side of the terminal: the screen's bytes go to it, and what libraries print meanwhile into a file."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO

_STANDARD = (1, 2)
_LOOK_EVERY_S = 0.1
_FULL = 8192
"""Characters that are sent before the writing thread says that no more come for now."""
_TAIL_BYTES, _TAIL_LINES = 4096, 10


class ScreenOutput:
    """Stream to the terminal, for Textual's writing thread.

    While the terminal is taken, descriptors 1 and 2 lead to a file: nothing that a library in C, a child process or a
    forgotten print writes is painted over the screen. `sys.__stdout__` still leads to the terminal. A terminal that
    another program has set not to block (EAGAIN) is waited for. Any other failure is told once, and nothing is sent
    after it.
    """

    def __init__(self, on_failure: Callable[[OSError], object]) -> None:
        """Write to standard error; `on_failure` is called in the writing thread."""
        self.fd = _STANDARD[1]
        """Descriptor of the terminal."""
        self.has_failed = False
        self._on_failure = on_failure
        self._encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
        self._parts: list[str] = []
        self._num_chars = 0
        self._kept: list[int] = []
        self._printed: IO[bytes] | None = None
        self._stdout = sys.__stdout__

    # --- as a stream -------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the terminal's descriptor."""
        return self.fd

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self.fd)

    def write(self, text: str) -> int:
        """Send text with the next flush, or when there is much of it."""
        self._parts.append(text)
        self._num_chars += len(text)
        if self._num_chars >= _FULL:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Send all that was written."""
        left = "".join(self._parts).encode(self._encoding, "backslashreplace")
        self._parts.clear()
        self._num_chars = 0
        while left and not self.has_failed:
            try:
                left = left[os.write(self.fd, left) :]
            except BlockingIOError:
                select.select([], [self.fd], [], _LOOK_EVERY_S)
            except OSError as error:
                self.has_failed = True
                self._on_failure(error)

    # --- what others print -------------------------------------------------------------------------

    def take(self) -> None:
        """Keep the terminal for the screen."""
        if self._kept:
            return
        _flush_standard()
        try:
            self._printed = TemporaryFile(buffering=0)  # noqa: SIM115
            elsewhere = os.dup(self._printed.fileno())
        except OSError:  # no room for a file: what others print is lost
            elsewhere = os.open(os.devnull, os.O_WRONLY)
        self._kept = [os.dup(number) for number in _STANDARD]
        self.fd = self._kept[1]
        for number in _STANDARD:
            os.dup2(elsewhere, number)
        os.close(elsewhere)
        self._stdout = sys.__stdout__
        # textual-image asks it for the size of a cell and writes pictures to it
        sys.__stdout__ = os.fdopen(os.dup(self._kept[0]), "w", encoding=self._encoding, errors="backslashreplace")  # type: ignore[misc]

    def give_back(self) -> str:
        """Let everybody print to the terminal again; return the last lines of what was printed meanwhile."""
        kept, self._kept = self._kept, []
        if not kept:
            return ""
        _flush_standard()
        with suppress(OSError):
            sys.__stdout__.close()  # type: ignore[union-attr]
        sys.__stdout__ = self._stdout  # type: ignore[misc]
        for number, fd in zip(_STANDARD, kept, strict=True):
            os.dup2(fd, number)
        self.fd = _STANDARD[1]
        for fd in kept:
            os.close(fd)
        printed, self._printed = self._printed, None
        return "" if printed is None else _tail(printed)


def _flush_standard() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()


def _tail(file: IO[bytes]) -> str:
    with file, suppress(OSError):
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-_TAIL_LINES:])
    return ""
