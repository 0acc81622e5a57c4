"""More runs than a list is made for, and more workers than a run is made for."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs import start
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tests.workers import ForkWorker
from tui.data.run_list import RunLister

Make = Callable[..., RunDir]
MOST_S = 5.0
"""For a thousand runs, start of Python included, which took 0.2 to 0.7 s on two busy cores: seven times that."""


@pytest.fixture
def a_thousand(tiny: Make, fork_worker: ForkWorker, runs_dir: Path) -> Path:
    """A folder of a thousand finished runs."""
    run = tiny()
    fork_worker(run).ends()
    for number in range(999):
        path = runs_dir / f"{run.id[:-4]}{number:04}x"
        path.mkdir()
        (path / "run.json").write_bytes(
            (run.path / "run.json").read_bytes().replace(run.id.encode(), path.name.encode())
        )
        shutil.copy(run.events, path)
    return runs_dir


def test_a_thousand_runs_are_listed_in_seconds(a_thousand: Path, cifartui: Callable) -> None:  # type: ignore[type-arg]
    started = time.monotonic()
    done = cifartui("runs")
    command_s = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1001
    assert command_s < MOST_S
    started = time.process_time()
    lister = RunLister(a_thousand, time.time, limit=None)
    first = next(iter(lister.refresh()))
    first_s = time.process_time() - started
    assert len(first.runs) == 25
    assert first_s < MOST_S / 8
    assert len(lister.list().runs) == 1000
    again = time.process_time()
    lister.list()
    assert time.process_time() - again < MOST_S / 8


def test_a_run_that_has_a_worker_takes_no_second_one(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny(epochs=50_000)
    fork_worker(run).trains()
    with pytest.raises(CifartuiError, match=rf"Run {run.id} already has a worker; watch it with: cifartui attach"):
        start.start_worker(run, resume=True)
