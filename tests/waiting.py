"""Waiting for what another process does: for conditions, never for a fixed time."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from engine.journal.events import RunFinished
from engine.runs.run_dir import RunDir

PATIENCE_S = 120.0
PRINT_STACKS = signal.SIGUSR2
"""Forked processes answer it with the stacks of their threads, on their standard error; see `tests.fork_server`."""
_SHORTEST_REST_S = 0.02
_REST_PER_LOOK = 4
"""A condition that reads a whole journal would otherwise take the processor from what it waits for."""
_TO_PRINT_S = 3.0


def wait_for(condition: Callable[[], Any], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> Any:
    """Return the first true value of `condition`; fail with `what`, asked for then, where none comes."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        before = time.thread_time()
        if value := condition():
            return value
        # between looks at another process; nothing depends on its length
        time.sleep(max(_SHORTEST_REST_S, _REST_PER_LOOK * (time.thread_time() - before)))
    raise AssertionError(f"waited {patience_s:.0f} s in vain for: {what if isinstance(what, str) else what()}")


def finished(run: RunDir, patience_s: float = PATIENCE_S) -> RunFinished:
    """Wait until no worker of `run` lives and its journal has an end, and return that."""

    def ended() -> RunFinished | None:
        return None if run.worker_lives() else run.read_state().finished

    found: RunFinished = wait_for(ended, lambda: f"the end of the run; {left_by(run)}", patience_s)
    return found


def trains(run: RunDir, epochs: int = 0, patience_s: float = PATIENCE_S) -> None:
    """Wait until `run` has trained so many epochs and a step of the current worker; fail where it ends before."""

    def trained() -> bool:
        state = run.read_state()
        assert state.finished is None, state.finished
        return len(state.epochs) >= epochs and bool(state.steps)

    wait_for(trained, lambda: f"training; {left_by(run)}", patience_s)


def left_by(run: RunDir) -> str:
    """Return what a run that did not do as it should left behind: its last events, its processes and their stacks."""
    mark, lines = run.read_mark(), [f"worker {'lives' if run.worker_lives() else 'is gone'}"]
    with suppress(psutil.Error):
        if mark is not None and run.worker_lives():
            worker = psutil.Process(mark.pid)
            for process in (worker, *worker.children(recursive=True)):
                with suppress(psutil.Error):
                    lines.append(f"{process.pid} {process.status()} {process.cpu_times()[:2]} {process.cmdline()[:4]}")
                    process.send_signal(PRINT_STACKS)
            time.sleep(_TO_PRINT_S)
    for path in (run.events, run.log):
        text = path.read_text(errors="replace") if path.exists() else ""
        lines += [f"{path.name}:", *text.splitlines()[-200:]]
    return "\n".join(lines)
