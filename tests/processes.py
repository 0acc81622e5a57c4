"""Processes that a test leaves running: found by a variable that every child inherits, and ended.

A worker or a runner starts a session of its own and outlives its parent, so children alone are not all.
"""

import os
import time
import uuid
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "PYTEST_STARTED_BY"
"""The variable; its value is another one in every process that runs tests."""
_DIES_WITHIN_S = 5.0


def mark_children() -> None:
    """Mark the processes that this one starts from now on, and theirs."""
    os.environ[MARK] = uuid.uuid4().hex


def left_running(before: Container[int], grace_s: float) -> list[psutil.Process]:
    """Return the processes that were started here, are not in `before` (process ids) and do not end in `grace_s`."""
    deadline = time.monotonic() + grace_s
    while (found := _running(before)) and time.monotonic() < deadline:
        time.sleep(0.02)  # between looks at other processes; nothing depends on its length
    return found


def end(before: Container[int]) -> None:
    """Kill the processes that were started here and are not in `before`, and those that they start meanwhile."""
    deadline = time.monotonic() + _DIES_WITHIN_S
    while (found := _running(before)) and time.monotonic() < deadline:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)  # as above


def of_folder(folder: Path) -> list[int]:
    """Return the ids of the processes whose arguments name a path in `folder`, such as the workers of its runs."""
    inside = f"{folder}{os.sep}"
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(argument.startswith(inside) for argument in process.info["cmdline"] or ())
    ]


def describe(process: psutil.Process) -> str:
    """Return the process's id and command line."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:300]}"
    except psutil.Error:
        return f"{process.pid}: ended meanwhile"


def _running(before: Container[int]) -> list[psutil.Process]:
    started = [pid for pid in psutil.pids() if pid not in before]
    if not started:
        return []
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    return [process for pid in started if (process := _alive(pid)) and (pid in ours or _is_marked(process))]


def _alive(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.Error:
        return None


def _is_marked(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == os.environ[MARK]
    except (psutil.Error, OSError):
        return False
