"""Real worker processes on small runs. Waits for conditions, never for a time."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runs import run_dir
from engine.runs import start as launch
from engine.runs.run_dir import RunDir
from presets import catalog
from tests.terminal import Terminal
from tests.waiting import PATIENCE_S

SMALL = ("data.train_limit=1280", "train.batch_size=32")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Iterator[Path]:
    """A runs folder whose workers are ended with the test."""
    path = tmp_path / "runs"
    yield path
    for run in run_dir.list_runs(path):
        mark = run.read_mark()
        if mark is not None and run.worker_lives():
            os.kill(mark.pid, signal.SIGKILL)


@pytest.fixture
def start(runs_dir: Path) -> Callable[..., RunDir]:
    """Start the demo, small, with further overrides."""

    def start_demo(*overrides: str, seed: int = 0) -> RunDir:
        preset = catalog.load("demo", [*SMALL, *overrides])
        run = run_dir.create(runs_dir, "demo", preset=preset, overrides=overrides, seed=seed, device="cpu")
        launch.start_worker(run)
        return run

    return start_demo


@pytest.fixture
def cifartui(runs_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with this test's runs folder."""

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cifartui", *arguments],
            env={**os.environ, "CIFARTUI_RUNS": str(runs_dir), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return call


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
