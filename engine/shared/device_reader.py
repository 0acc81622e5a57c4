"""Readings of the GPUs with a deadline: NVML is asked in a process of its own, which nobody waits for. No torch.

Calls into a driver that hangs never return, and a thread in such a call keeps its whole process from ending, SIGKILL
included. So no other process calls NVML, and this one is left behind if it does not end.
"""

import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import msgspec

from engine.journal.events import GpuSample
from engine.shared import child_process
from engine.shared.child_process import Process
from engine.shared.device_names import NO_ANSWER
from engine.shared.sampling import NO_LIBRARY, NvmlReader

ASKED_ONCE_S = 10.0
"""For so long a command that reads once waits: without persistence mode a driver takes seconds to start."""
ASKED_AGAIN_S = 1.0
"""For so long whoever reads every second or two waits; an answer that comes later is there at the next reading."""
_PATIENCE_S = 5.0
"""Sooner than this nothing is said of a driver that has not answered yet."""
_ENDS_WITHIN_S = 0.5
_LIBRARY = "libnvidia-ml.so.1"
_ENDED = "the process that asks the NVIDIA driver ended; it is started again"
_NOT_YET = "the NVIDIA driver has not answered yet"

_Answer = tuple[tuple[GpuSample, ...], str]


class DeviceReader:
    """Reads every GPU that NVML shows, with a deadline. One a process is enough; not to be shared between threads.

    The process that asks NVML is started by the first reading on a machine with a driver, and again if it died. It ends
    with this object, and when this process does.
    """

    def __init__(
        self,
        wait_s: float = ASKED_ONCE_S,
        *,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait so many seconds for a reading; `now` returns Unix seconds, `steady` those of a clock nobody sets."""
        self._wait_s, self._now, self._steady = wait_s, now, steady
        self._process: Process | None = None
        self._end: Callable[[], object] = lambda: None
        self._asked: tuple[float, float] | None = None
        """Times, by both clocks, of the request that is not answered yet."""
        self._received = b""

    def __enter__(self) -> "DeviceReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sample(self, pid: int | None = None) -> _Answer:
        """Read all GPUs, and return in time. Never raises. The first of several readings that hang is waited for.

        Args:
            pid: Process whose GPU memory is wanted, that of its descendants included; this process by default.

        Returns:
            As `NvmlReader.sample`; no GPUs if the driver does not answer, and since when.
        """
        try:
            return self._sample(pid or os.getpid())
        except Exception as error:  # telemetry must never end a run
            self.close()
            return (), f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """End the process that asks NVML, or leave it behind if it cannot end."""
        self._end()
        self._process, self._asked, self._received = None, None, b""

    def _sample(self, pid: int) -> _Answer:
        is_late = self._asked is not None
        if is_late:
            if (late := self._answer(0.0)) is None:
                return (), self._reason()
            if self._process is None:  # it died
                return late
        if self._process is None and not self._start():
            return (), NO_LIBRARY
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(f"{pid}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            return (), _ENDED
        self._asked = (self._steady(), self._now())
        answer = self._answer(self._wait_s)
        return ((), self._reason()) if answer is None else answer

    def _start(self) -> bool:
        """Start the process; return False if there is no driver to ask."""
        import ctypes

        if sys.platform.startswith("linux"):
            try:
                ctypes.CDLL(_LIBRARY)  # loads it and calls nothing
            except OSError:
                return False
        pipe = subprocess.PIPE
        self._process = child_process.start(
            __name__, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._end = weakref.finalize(self, _end, self._process)
        return True

    def _answer(self, wait_s: float) -> _Answer | None:
        """Return the answer if it comes within `wait_s` seconds."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd, deadline = self._process.stdout.fileno(), self._steady() + wait_s
        while b"\n" not in self._received:
            if not select.select([fd], [], [], max(0.0, deadline - self._steady()))[0]:
                return None
            received = os.read(fd, 1 << 16)
            if not received:
                self.close()
                return (), _ENDED
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        self._asked = None
        answer: _Answer = msgspec.json.decode(line, type=_Answer)
        return answer

    def _reason(self) -> str:
        assert self._asked is not None
        steady, since = self._asked
        if self._steady() - steady < _PATIENCE_S:
            return _NOT_YET
        return f"{NO_ANSWER}, since {time.strftime('%H:%M:%S', time.localtime(since))}"


def _end(process: Process) -> None:
    """Close the process's pipes, kill it if it does not end by that, and leave it alone if it does not even then."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_ENDS_WITHIN_S)
        return
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_ENDS_WITHIN_S)


def main() -> None:
    """Answer each line of standard input, a process id, by a line with the readings as JSON."""
    with NvmlReader() as reader:
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(msgspec.json.encode(reader.sample(int(line))) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
