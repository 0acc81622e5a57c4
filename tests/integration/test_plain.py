"""`cifartui train` followed in terminals, pipes and files, and left in every way there is."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs.run_dir import RunDir, list_runs
from tests.fork_client import ForkServer
from tests.terminal import Terminal
from tests.ui.sample_run import training as training_run
from tests.waiting import PATIENCE_S, wait_for

SMALL = ("--set", "data.train_limit=640", "--set", "train.batch_size=32", "--device", "cpu")
LONG = ("train", "demo", "--epochs", "500", *SMALL)
Open = Callable[..., Terminal]
Follow = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def follower(runs_dir: Path, fork_server: ForkServer) -> Follow:
    """Start the command line with pipes to read from; the workers that it starts are forked."""
    return lambda *arguments: subprocess.Popen(
        fork_server.command(*arguments),
        env={**os.environ, **fork_server.variables, "CIFARTUI_RUNS": str(runs_dir)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def only_run(runs_dir: Path) -> RunDir:
    run: RunDir = wait_for(lambda: next(iter(list_runs(runs_dir)), None), "a run folder")
    return run


def trains_on(run: RunDir) -> None:
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training without a follower")
    assert run.worker_lives()
    assert not run.commands.exists()  # nobody asked it to stop


def test_a_live_line_below_the_epochs_and_a_cursor_that_comes_back(terminals: Open, runs_dir: Path) -> None:
    terminal = terminals(*LONG)
    terminal.shows("loading PyTorch takes a few seconds")
    terminal.shows("/500  batch", "left")
    terminal.shows("epoch   1/500  train", "/500  batch")
    assert terminal.screen.cursor.hidden
    terminal.resize(24, 50)

    def below() -> str:
        return [row for row in terminal.text().splitlines() if row.strip()][-1].rstrip()

    wait_for(lambda: re.search(r" %  epoch \d+/500  batch", below()) and len(below()) < 50, "a shorter line")
    terminal.press("\x03")
    terminal.shows("Asked to stop", "stopping after this batch", "stopped (by command")
    wait_for(terminal.ended, "the end")
    assert terminal.process.exitstatus == 130
    assert not terminal.screen.cursor.hidden
    assert "batch" not in terminal.text().splitlines()[terminal.screen.cursor.y]


def test_a_dumb_terminal_gets_lines(terminals: Open, runs_dir: Path) -> None:
    terminal = terminals("train", "demo", "--epochs", "1", "--output", "live", *SMALL, TERM="dumb")
    terminal.shows("completed: best val")
    wait_for(terminal.ended, "the end")
    assert b"\x1b" not in terminal.received


def test_a_hang_up_ends_the_following_only(terminals: Open, runs_dir: Path) -> None:
    terminal = terminals(*LONG)
    terminal.shows("batch")
    terminal.hang_up()
    wait_for(lambda: not terminal.process.isalive(), "the end of the follower")
    trains_on(only_run(runs_dir))


@pytest.mark.parametrize("output", ["lines", "json"])
def test_a_closed_pipe_ends_the_following_and_says_so(follower: Follow, runs_dir: Path, output: str) -> None:
    process = follower(*LONG, "--output", output)
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(3):
        assert process.stdout.readline()  # a line at a time, not when a buffer is full
    process.stdout.close()  # as `| head -3` does
    assert process.wait(PATIENCE_S) == 141
    said = process.stderr.read()
    run = only_run(runs_dir)
    assert said.splitlines()[-1].startswith("Nobody reads the output any more; training goes on.")
    assert f"cifartui attach {run.id}" in said
    assert "Traceback" not in said
    trains_on(run)


def test_sighup_ends_the_following_and_nohup_does_not_even_that(follower: Follow, runs_dir: Path) -> None:
    process = follower(*LONG, "--output", "quiet")
    run = only_run(runs_dir)
    wait_for(lambda: run.read_state().steps, "training")
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 129
    assert "training goes on" in said
    trains_on(run)


def test_under_nohup_a_hang_up_changes_nothing(follower: Follow, runs_dir: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does before it starts a program
    try:
        process = follower(*LONG, "--output", "quiet")
    finally:
        signal.signal(signal.SIGHUP, before)
    run = only_run(runs_dir)
    wait_for(lambda: run.read_state().steps, "training")
    process.send_signal(signal.SIGHUP)
    trains_on(run)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_resume_tells_only_what_is_new(
    follower: Follow, cifartui: Callable[..., "subprocess.CompletedProcess[str]"], runs_dir: Path
) -> None:
    process = follower("train", "demo", "--epochs", "4", *SMALL, "--output", "lines")
    run = only_run(runs_dir)
    wait_for(lambda: run.read_state().epochs and run.last.exists(), "an epoch")
    assert cifartui("stop", "latest").returncode == 0
    process.communicate(timeout=PATIENCE_S)
    resumed = cifartui("resume", "latest", "--output", "lines")
    assert resumed.returncode == 0, resumed.stderr
    lines = resumed.stdout.splitlines()
    assert lines[1].startswith("worker resumed at step")
    assert not any(line.startswith("worker started") for line in lines)
    assert lines[-1].startswith("completed")


@pytest.mark.parametrize(
    ("environment", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_show_is_coloured_where_colours_are_wanted(
    terminals: Open, runs_dir: Path, environment: dict[str, str], is_coloured: bool
) -> None:
    with training_run(runs_dir):
        terminal = terminals("show", "latest", size=(70, 120), **environment)
        seen = terminal.shows("how to go on", "cifartui attach", "28,022 parameters", "• val")
        wait_for(terminal.ended, "the end")
    assert (b"\x1b[" in terminal.received) is is_coloured
    assert any("loss" in row and "top-1 %" in row for row in seen.splitlines())


def test_show_in_a_pipe_is_80_columns_of_plain_text_and_ascii_in_the_c_locale(
    cifartui: Callable[..., "subprocess.CompletedProcess[str]"], runs_dir: Path
) -> None:
    with training_run(runs_dir):
        for locale in ("C.UTF-8", "C"):
            result = cifartui("show", "latest", LC_ALL=locale, FORCE_COLOR="1", COLUMNS="200", TERM="xterm-256color")
            assert result.returncode == 0, result.stderr
            assert "\x1b" not in result.stdout
            assert all(len(row) <= 80 or "folder" in row for row in result.stdout.splitlines())
            assert result.stdout.isascii() is (locale == "C")
