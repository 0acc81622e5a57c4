"""Starting a worker that outlives the terminal. Knows processes; nothing of training or of torch."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from engine.runs import disk, private
from engine.runs.folder import RunFolder, sign_lock
from engine.shared import child_process
from presets.errors import CifartuiError

_LOCK_PATIENCE_S = 0.5
NOTIFY = "CIFARTUI_NOTIFY"
"""The variable in which a worker is told what to run when the run has ended."""
_HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Until the worker listens to them (`Controls.listen_to_signals`): they would end it without a last word."""


def start_worker(
    folder: RunFolder, *, resume: bool = False, prepare: Callable[[], Sequence[str]] | None = None, notify: str = ""
) -> int:
    """Start the worker of a run in a session of its own and return its process id.

    The launcher takes the run's lock and hands it down, so that from the first moment nobody else can
    start a second worker here, and a worker that dies at once is seen to be dead.

    Args:
        folder: the run.
        resume: go on from its last checkpoint, if it has one.
        prepare: called with the lock held; returns what it changed, for the journal. What it raises comes through.
        notify: a shell command for when the run has ended. It comes from whoever starts the worker, never from the
            run directory, which may have been written by somebody else.

    Raises:
        CifartuiError: a worker already holds the run, or none can be started.
    """
    try:
        lock_fd = take_lock(folder)
        try:
            return _start(folder, lock_fd, prepare() if prepare else (), notify, resume=resume)
        finally:
            os.close(lock_fd)
    except OSError as error:
        raise CifartuiError(
            f"Run {folder.id} cannot be given a worker ({error.strerror}: {error.filename}); is the run yours, "
            "and is there room on its disk?"
        ) from error


def _start(folder: RunFolder, lock_fd: int, changes: Sequence[str], notify: str, *, resume: bool) -> int:
    commands_from = folder.commands.stat().st_size if resume and folder.commands.exists() else 0
    disk.keep_room(folder.reserve)
    arguments = [str(folder.path.absolute()), "--lock-fd", str(lock_fd), "--commands-from", str(commands_from)]
    arguments += [*(["--resume"] if resume else []), *(f"--change={change}" for change in changes)]
    program = "worker" if folder.read_info().devices == 1 else "distributed.agent"
    log_fd = private.open_file(folder.log, os.O_WRONLY | os.O_APPEND)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)  # what is started inherits this
    try:
        process = child_process.start(
            f"engine.training.{program}",
            arguments,
            environment={**os.environ, NOTIFY: notify},  # no argument: it may hold a token, and arguments are public
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(lock_fd,),
            start_new_session=True,
        )
        sign_lock(lock_fd, process.pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(log_fd)
    return process.pid


def take_lock(folder: RunFolder) -> int:
    """Return a file descriptor that holds the run's lock for as long as it is open, here or where it is inherited.

    Raises:
        CifartuiError: a worker already holds the run, or it belongs to another user.
    """
    folder.check_ours()
    fd = private.open_file(folder.lock, os.O_RDWR)
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    try:
        while not _locks(fd):  # a worker has it, or a viewer who is just looking whether there is one
            if time.monotonic() > deadline:
                raise CifartuiError(f"Run {folder.id} already has a worker; watch it with: cifartui attach {folder.id}")
            time.sleep(0.02)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _locks(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hurry_worker(folder: RunFolder) -> None:
    """Send SIGTERM to the worker of a run, if it has one on this host: one that is stopping already ends at once."""
    mark = folder.read_mark()
    if mark is not None and folder.worker_lives():
        with suppress(ProcessLookupError):
            os.kill(mark.pid, signal.SIGTERM)
