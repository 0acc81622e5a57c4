"""The program in a real pseudo-terminal, with keys, as over SSH."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from engine.runs.run_dir import RunDir, list_runs
from tests.terminal import Terminal
from tests.waiting import wait_for


def only_run(runs_dir: Path) -> RunDir:
    run: RunDir = wait_for(lambda: next(iter(list_runs(runs_dir)), None), "a run folder")
    return run


def start_from_home(terminals: Any, runs_dir: Path) -> tuple[Terminal, RunDir]:
    terminal = terminals()
    terminal.shows("demo")
    terminal.press("\r")
    terminal.shows("such as")
    terminal.type("500\t32" + 7 * "\t" + "data.train_limit=1280\r")  # epochs, batch size, the line for any key
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


@pytest.mark.alone
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


_QUESTION = re.compile(
    rb"\x1b\[\?\d+\$p|\x1b\[[>=]?0?c|\x1b\[\??[56]n|\x1b\[\?u|\x1b\[>0?q|\x1b\[1[4-9]t|\x1b\][\d;]*\?(?:\x07|\x1b)|\x1bP[+$]q|"
    rb"\x1b_G[^\x1b]*a=q"
)
"""Everything by which a terminal is asked: modes, attributes, status, keyboard, version, size, colours, graphics."""


def test_the_terminal_is_asked_what_its_guide_says_and_nothing_waits_for_a_reply(terminals: Any) -> None:
    terminal = terminals(COLORTERM="truecolor")
    terminal.shows("demo")  # though nobody has replied
    terminal.press("q")
    wait_for(terminal.ended, "leaving")
    asked = {question.decode() for question in _QUESTION.findall(terminal.received)}
    assert asked == {"\x1b[?2026$p", "\x1b[?2048$p"}
    guide = (Path(__file__).parents[2] / "docs" / "terminals.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`CSI \? (\d+) \$ p`", guide)) == {"2026", "2048"}
