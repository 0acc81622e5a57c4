"""Workers that are forked by a process that has imported torch (`tests.nursery`), and ended with the test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.journal.events import RunFinished
from engine.runs.run_dir import RunDir
from tests.waiting import wait_for

HOME = Path(__file__).parents[1]
_PATIENCE_S = 20


class Worker:
    """A forked worker, and its run."""

    def __init__(self, run: RunDir, pid: int) -> None:
        self.run = run
        self.pid = pid

    def is_held(self) -> None:
        """Wait until it is where it was to be held."""
        wait_for((self.run.path / "held").exists, f"the place; its log: {_log(self.run)}", _PATIENCE_S)

    def go_on(self) -> None:
        (self.run.path / "held").unlink()

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends(self) -> RunFinished | None:
        """Wait until it is gone, and return its last word."""
        wait_for(lambda: not self.run.worker_lives(), f"its end; its log: {_log(self.run)}", _PATIENCE_S)
        return self.run.read_state().finished

    def trains(self) -> None:
        wait_for(lambda: self.run.read_state().steps, f"training; its log: {_log(self.run)}", _PATIENCE_S)


def _log(run: RunDir) -> str:
    return run.log.read_text() if run.log.exists() else ""


Hire = Callable[..., Worker]


@pytest.fixture(scope="session")
def nursery(kept_processes: set[int]) -> Iterator[subprocess.Popen[str]]:
    """The process that forks workers, one for all tests of a session."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.nursery"],
        cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        kept_processes.add(process.pid)
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def hire(nursery: subprocess.Popen[str]) -> Iterator[Hire]:
    """Start a worker on a run, held at a place if one is named; it is ended with the test."""
    pids = []

    def start_worker(
        run: RunDir, hold: str = "", *, resume: bool = False, url: str = "", md5: str = "", **environment: str
    ) -> Worker:
        order = {"folder": str(run.path), "hold": hold, "resume": resume, "url": url, "md5": md5}
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        cache = {"CIFARTUI_CACHE": os.environ["CIFARTUI_CACHE"]}
        nursery.stdin.write(json.dumps({**order, "environment": {**cache, **environment}}) + "\n")
        pids.append(int(nursery.stdout.readline()))
        return Worker(run, pids[-1])

    yield start_worker
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
