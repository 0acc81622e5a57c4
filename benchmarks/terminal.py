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


class Terminal:
    """Runs one program in a terminal of its own; a context manager that kills it at the end."""

    def __init__(
        self, command: Sequence[str], columns: int, rows: int, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `command` in a terminal of `columns` × `rows` that knows 24-bit colour."""
        self.columns, self.rows = columns, rows
        self.arrivals: list[tuple[float, bytes]] = []
        """Every piece of output and when it came, in `time.perf_counter` seconds."""
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

    def read_until(self, found: Callable[[bytes], bool], timeout_s: float) -> float | None:
        """Take in output until `found` says yes to all that came since this call; return when, or None in vain."""
        since = b""
        deadline = time.perf_counter() + timeout_s
        while (left := deadline - time.perf_counter()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                return None
            try:
                piece = os.read(self._master, _CHUNK_BYTES)
            except OSError:  # the program has ended
                return None
            self.arrivals.append((time.perf_counter(), piece))
            since += piece
            if found(since):
                return self.arrivals[-1][0]
        return None

    def listen(self, seconds: float) -> int:
        """Take in output for so long and return how many bytes came."""
        before = len(self.arrivals)
        self.read_until(lambda _since: False, seconds)
        return sum(len(piece) for _, piece in self.arrivals[before:])

    def shown_at(self, is_shown: Callable[[str], bool]) -> float | None:
        """Return when, in seconds since the start, the screen first showed it; plays the arrivals so far again."""
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.ByteStream(screen)
        for at, piece in self.arrivals:
            stream.feed(piece)
            if is_shown("\n".join(screen.display)):
                return at - self.started
        return None

    def text(self) -> str:
        """Return what the screen shows."""
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.ByteStream(screen)
        for _, piece in self.arrivals:
            stream.feed(piece)
        return "\n".join(screen.display)
