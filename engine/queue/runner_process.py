"""Process that works off a queue: its start, its lock, its log.

Knows locks, processes and queue.log; knows nothing of what is in the queue or of what is done with it.
"""

import fcntl
import os
import subprocess
import time
from pathlib import Path

import msgspec

from engine import files
from engine.files import DAMAGED, is_locked
from engine.runs.notify_settings import NOBODY, VARIABLE, Notify, encoded
from engine.runs.run_dir import unwritable
from engine.runs.worker_mark import WorkerMark
from engine.shared import child_process
from presets.errors import CifartuiError
from presets.problems import printable

LOCK_AGAIN_AFTER_S = 0.02
_LOCK, _LOG = "queue-runner.lock", "queue.log"
_APPENDING = os.O_WRONLY | os.O_APPEND
_LOG_TAIL_BYTES = 4096


def runner_lives(runs_dir: Path) -> bool:
    """Return whether a runner holds its lock."""
    return bool(is_locked(runs_dir / _LOCK))


def runner_mark(runs_dir: Path) -> WorkerMark | None:
    """Return which process the runner is, or was last."""
    try:
        return msgspec.json.decode(files.read(runs_dir / _LOCK), type=WorkerMark)
    except (OSError, *DAMAGED):
        return None


def start_runner(runs_dir: Path, notify: Notify = NOBODY) -> None:
    """Start the queue's runner in a session of its own, unless one lives already.

    The lock is taken here and handed down, so that from the first moment nobody starts a second one.

    Args:
        runs_dir: whose queue.
        notify: whom whoever starts the runner wants to be told of every run that it starts. It is never taken from
            the queue, which somebody else may have written.

    Raises:
        CifartuiError: its process cannot be started.
    """
    lock_fd = claim_runner(runs_dir)
    if lock_fd is None:
        return
    # Every entry says where its data is: what the first one to add had in its environment is not for the others.
    environment = {name: value for name, value in os.environ.items() if name != "CIFARTUI_DATA"}
    environment[VARIABLE] = encoded(notify)  # no argument: it may hold a token, and arguments are public
    try:
        log_fd = files.open_file(runs_dir / _LOG, _APPENDING)
        try:
            child_process.start(
                "engine.queue.runner",
                [str(runs_dir.absolute()), "--lock-fd", str(lock_fd)],
                environment=environment,
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(lock_fd,),
                start_new_session=True,
            )
        finally:
            os.close(log_fd)
    except OSError as error:
        raise CifartuiError(
            f"The queue's runner cannot be started ({error.strerror}); try again with: cifartui queue start"
        ) from error
    finally:
        os.close(lock_fd)


def claim_runner(runs_dir: Path) -> int | None:
    """Take the runner's lock and return its file descriptor; None where a runner holds it."""
    try:
        fd = files.open_file(runs_dir / _LOCK, os.O_RDWR)
    except OSError as error:
        raise unwritable(runs_dir, error) from error
    try:
        while not try_lock(fd, fcntl.LOCK_EX, runs_dir):
            if not try_lock(fd, fcntl.LOCK_SH, runs_dir):  # not just somebody looking whether a runner lives
                os.close(fd)
                return None
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(LOCK_AGAIN_AFTER_S)
    except CifartuiError:
        os.close(fd)
        raise
    return fd


def try_lock(fd: int, kind: int, runs_dir: Path) -> bool:
    """Take the flock on a file of `runs_dir` at once; return False where somebody else holds it."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CifartuiError(
            f"Files in {runs_dir} cannot be locked ({error.strerror}); choose a folder on another disk with --runs-dir."
        ) from error
    return True


def log(runs_dir: Path, text: str) -> None:
    """Append a line with the time to queue.log."""
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(text, longest=500)}\n"
    fd = files.open_file(runs_dir / _LOG, _APPENDING)
    try:
        os.write(fd, line.encode("utf-8", "replace"))
    finally:
        os.close(fd)


def last_logged(runs_dir: Path) -> str:
    """Return the last line of queue.log, printable; empty where there is none."""
    try:
        lines = files.read(runs_dir / _LOG, last=_LOG_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return printable(lines[-1], longest=500) if lines else ""
