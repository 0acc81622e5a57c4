"""A terminal for measuring programs in: a pseudo-terminal that notes when how many bytes came, and what they show."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import psutil
import pyte
from typing_extensions import Self

_CHUNK_BYTES = 1 << 16
_BETWEEN_PIECES_S = 0.002
"""The pieces of one paint follow each other closer than this."""


class Terminal:
    """Runs one program in a terminal of its own; a context manager that kills it at the end."""

    def __init__(
        self, command: Sequence[str], columns: int, rows: int, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `command` in a terminal of `columns` × `rows` that knows 24-bit colour."""
        self.num_bytes = 0
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._unseen: list[bytes] = []
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        wanted = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})}
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=wanted, start_new_session=True
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._master)

    @property
    def process(self) -> psutil.Process:
        """The program."""
        return psutil.Process(self._process.pid)

    def press(self, keys: str) -> float:
        """Type `keys` and return when, in `time.perf_counter` seconds."""
        pressed = time.perf_counter()
        os.write(self._master, keys.encode())
        return pressed

    def listen(self, seconds: float) -> int:
        """Take in output for so long, without looking at it, and return how many bytes came."""
        before, deadline = self.num_bytes, time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._unseen.append(self._read(left))
        return self.num_bytes - before

    def wait_for(self, is_shown: Callable[[str], bool], timeout_s: float = 20.0) -> float:
        """Take in output until the screen shows what is wanted; return when the last piece of it came.

        Raises:
            TimeoutError: it is not shown in time; the message is what is shown.
        """
        at, deadline = time.perf_counter(), time.perf_counter() + timeout_s
        while not is_shown(self.text()):
            if (left := deadline - time.perf_counter()) <= 0:
                raise TimeoutError(self.text())
            piece = self._read(left)
            while piece:  # a paint comes in pieces: the time that pyte takes over one must not hold up the next
                at = time.perf_counter()
                self._unseen.append(piece)
                piece = self._read(_BETWEEN_PIECES_S)
        return at

    def shown_within(self, is_shown: Callable[[str], bool], seconds: float) -> float:
        """Take in output for so long, then go through it; return when the screen showed what is wanted.

        Going through it takes a core for as long as a program takes to start, so it waits until that is over.

        Raises:
            TimeoutError: it was not shown; the message is what is shown.
        """
        pieces, deadline = list[tuple[float, bytes]](), time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            piece = self._read(left)
            pieces.append((time.perf_counter(), piece))
        for at, piece in pieces:
            self._unseen.append(piece)
            if piece and is_shown(self.text()):
                return at
        raise TimeoutError(self.text())

    def text(self) -> str:
        """Return what the screen shows."""
        for piece in self._unseen:
            self._stream.feed(piece)
        self._unseen.clear()
        return "\n".join(self._screen.display)

    def _read(self, timeout_s: float) -> bytes:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return b""
        try:
            piece = os.read(self._master, _CHUNK_BYTES)
        except OSError:  # the program has ended
            time.sleep(min(0.05, timeout_s))
            return b""
        self.num_bytes += len(piece)
        return piece
