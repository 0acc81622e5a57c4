"""Claim of a run: a file that says who may start its worker next, for hosts that do not see each other's locks.

The lock keeps two workers of one host apart. Another host need not see it (NFS, FUSE), and some file systems refuse
locks. So whoever starts a worker also replaces the token in `worker.claim`, and of those who have read the same token
one only can: they make the same file, exclusively, before they do.
"""

import os
import socket
import time
from contextlib import suppress

import msgspec

from engine import files
from engine.runs.run_dir import RunDir, write_atomically
from engine.runs.worker_mark import process_start
from presets.errors import CifartuiError

ENDS_WITHIN_S = 10.0
"""For so long a worker is waited for whose run has ended."""
_LOOK_EVERY_S = 0.1


class _Claim(msgspec.Struct, frozen=True):
    """Content of the file: an unguessable token, and the host whose process took it."""

    token: str
    host: str


def claim(run: RunDir, *, has_lock: bool) -> None:
    """Take the claim of a run, of which this process holds the lock unless its disk refuses locks.

    Raises:
        CifartuiError: a worker is there that does not show itself by a lock, or another process is just starting one.
        OSError: the folder cannot be written.
    """
    path, ours = run.path / "worker.claim", _Claim(os.urandom(8).hex(), socket.gethostname())
    try:
        fd = files.open_file(path, os.O_WRONLY | os.O_EXCL)
    except FileExistsError:
        before = _read(run)
    else:
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(ours))
        return
    if not (has_lock and before.host == ours.host):
        _check_silent(run, before)
    taking = run.path / f".worker.claim.{before.token}"
    try:
        os.close(files.open_file(taking, os.O_WRONLY | os.O_EXCL))
    except FileExistsError:
        raise _taken(run, f"; if that was killed, delete {taking}") from None
    try:
        if _read(run) != before:
            raise _taken(run)
        write_atomically(path, msgspec.json.encode(ours))
    finally:
        with suppress(OSError):
            taking.unlink()


def _read(run: RunDir) -> _Claim:
    """Return the claim; one of nobody where it is just being written, or damaged."""
    try:
        found = msgspec.json.decode(files.read(run.path / "worker.claim"), type=_Claim)
    except (OSError, *files.DAMAGED):
        return _Claim("0", "")
    return found if found.token.isalnum() and len(found.token) <= 32 else _Claim("0", found.host)


def _check_silent(run: RunDir, before: _Claim) -> None:
    """Raise CifartuiError unless the run has no worker, by all that can be seen without a lock."""
    mark = run.read_mark()
    if mark is not None and mark.host == socket.gethostname() == before.host and mark.started:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while process_start(mark.pid) == mark.started:
            if time.monotonic() > deadline or not has_spoken_last(run):
                raise has_worker(run)
            time.sleep(_LOOK_EVERY_S)
        return
    if not has_spoken_last(run) and run.grows():
        raise has_worker(run)
    if (_read(run), run.read_mark()) != (before, mark):
        raise _taken(run)


def has_spoken_last(run: RunDir) -> bool:
    """Return whether a run's last event is written: a worker that is still there is about to end.

    It is waited for where another one is to be started: whoever followed the run has already been told of its end.
    """
    return run.events.exists() and run.read_state().is_finished


def has_worker(run: RunDir) -> CifartuiError:
    """Return the error of a start that finds a worker at work."""
    return CifartuiError(f"Run {run.id} already has a worker; watch it with: cifartui attach {run.id}")


def _taken(run: RunDir, more: str = "") -> CifartuiError:
    return CifartuiError(f"Run {run.id} is just being given a worker by another process{more}.")
