"""Signals to the worker process of a run, as the run's lock names it, and to no other process.

A lock's file may be damaged, left over or written by somebody else: its process id may be -1, which means every process
of the user, or by now be that of another program.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine import files
from engine.runs.run_dir import RunDir
from engine.runs.worker_mark import process_start

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped,unused-ignore]

_WORKERS = ("engine.training.worker", "engine.training.distributed.agent", "engine.training.distributed.rank")
"""Modules as which a process works in a run."""
_RANK = _WORKERS[-1:]
_LOWEST_PID = 2
"""0 and less mean groups of processes, or all; 1 is the system's own."""


def signal_worker(folder: RunDir, number: int) -> bool:
    """Send a signal to the worker of a run on this host.

    Returns:
        False, and nothing is sent, unless the lock is held, is ours, and names a process that is that worker: of this
        user, with its start time (a lock of before versions that wrote it has none) and its command line. Root may
        signal every worker, but only processes of the user whose lock it is.
    """
    mark = folder.read_mark()
    with suppress(OSError):
        about = folder.lock.lstat()
        if os.geteuid():
            files.check_ours(about, folder.lock)
        if mark is not None and folder.works_here():
            return _send(mark.pid, number, folder.path, _WORKERS, mark.started, os.geteuid() or about.st_uid)
    return False


def signal_rank(folder: RunDir, pid: int, number: int) -> bool:
    """Send a signal to a rank of a run that this process's parent has started too; return False if it is none."""
    import psutil

    try:
        is_sibling = pid >= _LOWEST_PID and psutil.Process(pid).ppid() == os.getppid()
    except (psutil.Error, OverflowError):
        return False
    return is_sibling and _send(pid, number, folder.path, _RANK)


def _send(pid: int, number: int, run: Path, modules: Sequence[str], started: int = 0, user: int | None = None) -> bool:
    """Send a signal to a process of `user`, else of this one, that works in `run`; return False if it is another."""
    import psutil

    if pid < _LOWEST_PID or pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        is_ours = process.uids().effective == (os.geteuid() if user is None else user)
        if not is_ours or (started and process_start(pid) != started) or not _works_in(process, run, modules):
            return False
        process.send_signal(number)  # not where the id has been given to another process meanwhile
    except (psutil.Error, OverflowError, OSError):
        return False
    return True


def _works_in(process: "psutil.Process", run: Path, modules: Sequence[str]) -> bool:
    """Return true if a process's command line names one of our modules and, behind it, the run's folder."""
    line = process.cmdline()
    module = next((place for place, word in enumerate(line) if word in modules), None)
    return module is not None and any(Path(word).name == run.name for word in line[module + 1 :])
