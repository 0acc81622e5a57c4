"""Workers on small runs, the command line and the dashboard. Waits for conditions, never for a time."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.runs import run_dir
from engine.runs.run_dir import RunDir
from presets import catalog
from tests import processes
from tests.terminal import Terminal
from tests.waiting import PATIENCE_S
from tests.workers import Hire

SMALL = ("data.train_limit=1280", "train.batch_size=32")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Iterator[Path]:
    """A runs folder whose workers are ended with the test."""
    path = tmp_path / "runs"
    yield path
    for pid in processes.of_folder(path):  # by what they are told: one that has just started has not signed its lock
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def demo(runs_dir: Path) -> Callable[..., RunDir]:
    """Make a run of the demo, small, with further overrides, not started yet."""

    def make(*overrides: str, seed: int = 0) -> RunDir:
        preset = catalog.load("demo", [*SMALL, *overrides])
        return run_dir.create(runs_dir, "demo", preset=preset, overrides=overrides, seed=seed, device="cpu")

    return make


@pytest.fixture
def start(demo: Callable[..., RunDir], hire: Hire) -> Callable[..., RunDir]:
    """Make a run of the demo and give it a forked worker: training begins two seconds earlier than with a new one."""

    def start_demo(*overrides: str, seed: int = 0) -> RunDir:
        run = demo(*overrides, seed=seed)
        hire(run)
        return run

    return start_demo


def run_cifartui(runs_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with a runs folder."""
    return subprocess.run(
        [sys.executable, "-m", "cifartui", *arguments],
        env={**os.environ, "CIFARTUI_RUNS": str(runs_dir), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def cifartui(runs_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with this test's runs folder."""
    return partial(run_cifartui, runs_dir)


@pytest.fixture
def terminals(runs_dir: Path) -> Iterator[Callable[..., Terminal]]:
    """Open the program in pseudo-terminals, which are closed with the test."""
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, **options: Any) -> Terminal:
        opened.append(Terminal(runs_dir, *arguments, **options))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.process.close(force=True)
