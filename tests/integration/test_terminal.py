"""The program in a real pseudo-terminal, with keys, as over SSH."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from engine.runs.folder import RunFolder, list_runs
from tests.waiting import wait_for

LINES, COLUMNS = 24, 80


class Terminal:
    """A program in a pseudo-terminal and the screen it has drawn."""

    def __init__(self, runs_dir: Path, *arguments: str) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        environment: Any = {**os.environ, "CIFARTUI_RUNS": str(runs_dir), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self.process = pexpect.spawn(
            sys.executable, ["-m", "cifartui", *arguments], dimensions=(LINES, COLUMNS), env=environment
        )

    def text(self) -> str:
        """Return what is on the screen now."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while True:
                self._stream.feed(self.process.read_nonblocking(65_536, timeout=0.1))
        return "\n".join(self.screen.display)

    def shows(self, *wanted: str) -> str:
        """Wait until every one of `wanted` is on the screen, and return it."""
        seen = ""

        def all_there() -> bool:
            nonlocal seen
            seen = self.text()
            return all(text.lower() in seen.lower() for text in wanted)

        try:
            wait_for(all_there, f"{wanted} on the screen", patience_s=30)
        except AssertionError:
            raise AssertionError(f"{wanted} never came; the screen:\n{seen}") from None
        return seen

    def press(self, keys: str) -> None:
        self.process.send(keys)

    def ended(self) -> bool:
        self.text()
        return not self.process.isalive()


@pytest.fixture
def terminals(runs_dir: Path) -> Iterator[Any]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal(runs_dir, *arguments))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.process.close(force=True)


def only_run(runs_dir: Path) -> RunFolder:
    run: RunFolder = wait_for(lambda: next(iter(list_runs(runs_dir)), None), "a run folder")
    return run


def start_from_home(terminals: Any, runs_dir: Path) -> tuple[Terminal, RunFolder]:
    terminal = terminals()
    terminal.shows("demo")
    terminal.press("\r")
    terminal.shows("such as")
    terminal.press("500\t32" + 5 * "\t" + "data.train_limit=1280\r")  # epochs, batch size, the line for any key
    return terminal, only_run(runs_dir)


def test_start_watch_leave_come_back_and_stop(terminals: Any, runs_dir: Path) -> None:
    terminal, run = start_from_home(terminals, runs_dir)
    terminal.shows("training")
    wait_for(lambda: run.read_state().epochs, "an epoch")
    terminal.press("q")
    wait_for(terminal.ended, "leaving")
    assert run.worker_lives()

    again = terminals("attach")
    again.shows("training", "val")
    again.press("s")
    again.shows("stopped", "test")
    state = run.read_state()
    assert state.phase == "stopped"
    assert run.best.exists()


def test_a_terminal_that_closes_leaves_the_worker_training(terminals: Any, runs_dir: Path) -> None:
    terminal, run = start_from_home(terminals, runs_dir)
    wait_for(lambda: run.read_state().steps, "training")
    terminal.process.close(force=True)
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training without a terminal")
    assert run.worker_lives()


def test_a_killed_worker_shows_as_lost_within_five_seconds_and_resumes(terminals: Any, runs_dir: Path) -> None:
    terminal, run = start_from_home(terminals, runs_dir)
    wait_for(run.last.exists, "a checkpoint")
    terminal.shows("training")
    mark = run.read_mark()
    assert mark is not None
    os.kill(mark.pid, 9)
    wait_for(lambda: "lost" in terminal.text().lower(), "the word lost", patience_s=5)
    terminal.press("r")
    terminal.shows("training")
    wait_for(lambda: run.worker_lives() and run.read_state().phase == "training", "training again")
