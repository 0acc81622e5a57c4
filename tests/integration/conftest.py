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
from tests.workers import CommandLine, ForkServer, ForkWorker

_AT_THE_START = {"LANG", "LC_ALL", "LD_LIBRARY_PATH"}
"""Variables that Python and the loader of libraries read as a process starts."""
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
def start(demo: Callable[..., RunDir], fork_worker: ForkWorker) -> Callable[..., RunDir]:
    """Make a run of the demo and give it a forked worker: training begins two seconds earlier than with a new one."""

    def start_demo(*overrides: str, seed: int = 0) -> RunDir:
        run = demo(*overrides, seed=seed)
        fork_worker(run)
        return run

    return start_demo


def start_cifartui(runs_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with a runs folder, in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "cifartui", *arguments],
        env={**os.environ, "CIFARTUI_RUNS": str(runs_dir), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def run_cifartui(
    fork_server: ForkServer, runs_dir: Path, *arguments: str, stdin: str = "", cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line with a runs folder: forked, or in a new process if its start depends on a variable."""
    if _AT_THE_START & variables.keys():
        return start_cifartui(runs_dir, *arguments, **variables)
    environment = {**os.environ, "CIFARTUI_RUNS": str(runs_dir), **variables}
    process = CommandLine(fork_server, arguments, environment, stdin=stdin, working_directory=cwd)
    printed = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, *printed)


@pytest.fixture
def cifartui(runs_dir: Path, fork_server: ForkServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with this test's runs folder, forked; so are the workers that it starts."""
    return partial(run_cifartui, fork_server, runs_dir)


@pytest.fixture
def cifartui_process(runs_dir: Path, fork_server: ForkServer) -> Callable[..., CommandLine]:
    """Start the command line with this test's runs folder, forked, and return its process."""
    environment = {**os.environ, "CIFARTUI_RUNS": str(runs_dir)}
    return lambda *arguments: CommandLine(fork_server, arguments, environment)


@pytest.fixture
def new_cifartui(runs_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with this test's runs folder as a user does: it and its workers are new processes."""
    return partial(start_cifartui, runs_dir)


@pytest.fixture
def terminals(runs_dir: Path, fork_server: ForkServer) -> Iterator[Callable[..., Terminal]]:
    """Open the program in pseudo-terminals, which are closed with the test."""
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, **options: Any) -> Terminal:
        opened.append(Terminal(fork_server, runs_dir, *arguments, **options))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.process.close(force=True)
