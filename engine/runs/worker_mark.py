"""Content of a lock that is held: the process that holds it, a worker or the queue's runner, and its devices.

Its reader is `RunDir.read_mark`.
"""

import os
import socket
import sys
from pathlib import Path

import msgspec

_START_FIELD = 19
"""Of /proc/PID/stat, counted from behind the program's name: in clock ticks since the machine was switched on."""


class WorkerMark(msgspec.Struct, frozen=True, kw_only=True):
    """Process that holds a lock, as the lock's file says: a run's worker, or a queue's runner."""

    pid: int
    host: str
    holds: tuple[str, ...] = ()
    """The devices of its machine that it trains on, GPUs by nvidia-smi's numbers; empty until it has chosen."""
    started: int = 0
    """Start time of the process (`process_start`); 0 if a version before wrote the lock."""


def process_start(pid: int) -> int:
    """Return when a process started, as a number that no other process of its id has; 0 if that cannot be told.

    On Linux it goes by a clock that nobody sets.
    """
    try:
        if sys.platform == "linux":
            return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[_START_FIELD])
        import psutil

        return int(psutil.Process(pid).create_time() * 1000)
    except Exception:  # the process is gone, or /proc is not to be seen here
        return 0


def sign_lock(lock_fd: int, pid: int, holds: tuple[str, ...] = ()) -> None:
    """Write into a lock that is held which process of this host holds it, and which devices that has chosen."""
    mark = WorkerMark(pid=pid, host=socket.gethostname(), holds=holds, started=process_start(pid))
    content = msgspec.json.encode(mark)
    os.pwrite(lock_fd, content, 0)  # before the cut: a full disk has the room that the last one took
    os.ftruncate(lock_fd, len(content))
