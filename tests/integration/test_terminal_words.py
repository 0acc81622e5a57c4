"""Replies of a terminal, signals, Ctrl-Z, crashes and sizes: the real program in a pseudo-terminal."""

import os
import re
import signal
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from engine.journal import commands
from engine.journal.jsonl import command_reader
from engine.runs.run_dir import RunDir
from tests.terminal import Terminal
from tests.unit.test_keyboard import REPLIES
from tests.waiting import wait_for

Open, Start = Callable[..., Terminal], Callable[..., RunDir]
MODES = {"1049", "1000", "1003", "1006", "1015", "1004", "2004"}
BROKEN = (
    b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x1b[M\x20\xff\xff", b"\x1b[M\x20\xe0\xe0",
    b"\x9b", b"\x84\x85", b"\xc2\x9b;1", b"\x1b[97:65;2:3;97u", b"\x1b[118;1:3u", b"\x1b[::;:;:u", b"\x1b[1114112u",
    b"\x1b[55296u",
    b"\x1b[" + b"9" * 5000 + b"u", b"\x1b[<0;" + b"9" * 4000 + b";1M", b"\x1b[<0;9999;9999M\x1b[<0;9999;9999m",
    b"\x1b[<35;9999;1M", b"\x1b[48;0;0;0;0t", b"\x1b[" + b"9" * 5000 + b";1R", b"\x1b[?2026;9$y",
)  # fmt: skip


def modes_left_on(received: bytes) -> set[str]:
    """Return the private modes that were switched on last, and "kitty" if keys were not given back."""
    on: set[str] = set()
    for number, end in re.findall(rb"\x1b\[\?(\d+)([hl])", received):
        (on.add if end == b"h" else on.discard)(number.decode())
    if len(re.findall(rb"\x1b\[>\d+u", received)) > len(re.findall(rb"\x1b\[<u", received)):
        on.add("kitty")
    return on - {"7", "25"}  # wrapped lines and the cursor: on is how they were


def cooked(terminal: Terminal) -> bool:
    flags = termios.tcgetattr(terminal.process.child_fd)[3]
    return bool(flags & termios.ICANON and flags & termios.ECHO)


def test_replies_neither_steer_a_run_nor_keep_a_key_from_steering_it(terminals: Open, start: Start) -> None:
    run = start("train.epochs=500")
    wait_for(lambda: run.read_state().steps, "training")
    terminal = terminals("attach", run.id)
    terminal.shows("training", "val")
    for reply in REPLIES.values():
        for parts in ([reply], [reply[: len(reply) // 2], reply[len(reply) // 2 :]], [reply.lstrip(b"\x1b\x9d\x9b")]):
            for part in parts:
                terminal.process.send(part)
                time.sleep(0.02)  # a read of its own
            terminal.text()  # until it is quiet for a moment, as after a reply
    wait_for(lambda: "at once" not in terminal.text(), "the end of what is said of the last reply")
    terminal.process.send(b"vs[]X\rvs")
    terminal.shows("8 characters at once: not taken for")
    terminal.press("c")
    given = command_reader(run.commands)
    asked = wait_for(given.read, "the key that was pressed")
    assert [type(each) for each in asked] == [commands.SaveCheckpoint]


def test_input_that_cannot_be_read_is_ignored(terminals: Open) -> None:
    terminal = terminals()
    terminal.shows("demo")
    for content in BROKEN:
        terminal.process.send(content)
        time.sleep(0.02)
    time.sleep(1.1)  # the longest that a sequence without an end holds keys up
    terminal.press("?")
    terminal.shows("Keys", "pgdn scroll")
    assert cooked(terminal) is False
    terminal.press("q")
    wait_for(lambda: "pgdn scroll" not in terminal.text(), "the end of help")
    terminal.press("q")
    wait_for(terminal.ended, "leaving")
    assert terminal.process.exitstatus == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGINT, 130)]
)
def test_a_signal_leaves_the_terminal_as_it_was(terminals: Open, number: signal.Signals, code: int) -> None:
    terminal = terminals()
    terminal.shows("demo")
    assert modes_left_on(terminal.received) >= {*MODES, "kitty"}
    assert not cooked(terminal)
    os.kill(terminal.process.pid, number)
    wait_for(terminal.ended, "the end")
    assert terminal.process.exitstatus == code
    assert modes_left_on(terminal.received) == set()
    assert cooked(terminal)


def test_a_signal_ends_a_dashboard_that_hangs(tmp_path: Path) -> None:
    process = in_python(tmp_path, "tui.app.CifartuiApp.action_help = lambda self: time.sleep(600)")
    received = read_until(process, b"demo")
    process.send("?")
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGTERM)
    received += read_to_the_end(process)
    assert process.exitstatus == 143
    assert modes_left_on(received) == set()


def test_a_terminal_that_was_stopped_is_given_back_too(runs_dir: Path) -> None:
    command = f"{sys.executable} -m cifartui; echo ended=$?"
    shell = pexpect.spawn("bash", ["--norc", "-c", command], dimensions=(24, 80), env=environment(runs_dir))
    received = read_until(shell, b"demo")
    pid = int(Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text())
    terminal = os.open(Path(f"/proc/{pid}/fd/0").readlink(), os.O_RDWR | os.O_NOCTTY)
    termios.tcflow(terminal, termios.TCOOFF)
    os.close(terminal)
    for lines in (30, 40, 50):  # more than waits for the terminal
        shell.setwinsize(lines, 100)
    os.kill(pid, signal.SIGTERM)
    received += read_until(shell, b"ended=143")
    assert modes_left_on(received) == set()
    shell.close(force=True)


def test_a_crash_says_where_its_traceback_is_and_training_goes_on(tmp_path: Path, start: Start) -> None:
    run = start("train.epochs=500")
    wait_for(lambda: run.read_state().steps, "training")
    fault = "def fault(self): raise ValueError('a fault of ours')\ntui.app.CifartuiApp.action_help = fault"
    process = in_python(run.path.parent, fault, "attach", run.id)
    received = read_until(process, b"val")
    process.send("?")
    received += read_to_the_end(process)
    said = received.decode().splitlines()[-1]
    assert process.exitstatus == 1
    assert "ValueError: a fault of ours" in said
    assert "Training goes on" in said
    file = Path(said.split(" is in ")[1].strip())
    assert "raise ValueError" in file.read_text() or "in fault" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"Traceback" not in received
    assert modes_left_on(received) == set()
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training without a dashboard")


def test_ctrl_z_stop_and_fg(runs_dir: Path) -> None:
    shell = pexpect.spawn("bash", ["--norc", "-i"], dimensions=(24, 80), env=environment(runs_dir), timeout=30)
    shell.sendline(f"{sys.executable} -m cifartui")
    shell.expect(r"demo")
    for how in ("\x1a", "kill -TSTP", "kill -STOP"):
        if how == "\x1a":
            shell.send(how)
        else:
            pid = int(Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text())
            os.kill(pid, signal.SIGTSTP if how.endswith("TSTP") else signal.SIGSTOP)
        shell.expect("Stopped")
        shell.sendline("fg")
        shell.expect(r"\x1b\[\?1049h")
        shell.expect("demo")
    shell.send("q")
    shell.expect(r"\$ $")
    shell.sendline("echo ended=$?")
    shell.expect("ended=0")
    shell.close(force=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("stop", ["\x1a", signal.SIGSTOP])
def test_a_stopped_dashboard_is_ended_by_a_signal_and_leaves_the_shell_its_terminal(
    runs_dir: Path, stop: "str | signal.Signals", number: signal.Signals, code: int
) -> None:
    shell = pexpect.spawn("bash", ["--norc", "-i"], dimensions=(24, 80), env=environment(runs_dir), timeout=30)
    shell.sendline(f"{sys.executable} -m cifartui")
    received = read_until(shell, b"demo")
    dashboard = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().strip()
    if isinstance(stop, str):
        shell.send(stop)
    else:
        os.kill(int(dashboard), stop)
    received += read_until(shell, b"Stopped")
    shell.sendline(f"kill -{number.name} %1")
    wait_for(lambda: not Path("/proc", dashboard).exists(), "the end", patience_s=30)
    shell.sendline("")
    received += read_until(shell, f"Exit {code}".encode())
    assert modes_left_on(received) - {"2004"} == set()  # the shell's own pastes
    shell.sendline("stty -a; echo check''ed")
    assert not re.search(rb"-(icanon|echo|isig) ", read_until(shell, b"checked"))
    shell.close(force=True)


@pytest.mark.parametrize("size", [(0, 0), (0, 80)])
def test_a_terminal_without_a_size_is_taken_for_one_of_80_by_24(runs_dir: Path, size: tuple[int, int]) -> None:
    process = pexpect.spawn(sys.executable, ["-m", "cifartui"], dimensions=size, env=environment(runs_dir))
    read_until(process, b"demo")
    process.send("q")
    read_to_the_end(process)
    assert process.exitstatus == 0


# --- programs --------------------------------------------------------------------------------------


def environment(runs_dir: Path) -> Any:
    return {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "CIFARTUI_RUNS": str(runs_dir), "PS1": "$ "}


def in_python(runs_dir: Path, patch: str, *arguments: str) -> Any:
    """Start the program with something of it replaced."""
    code = f"import sys, time, tui.app, cifartui\n{patch}\nsys.argv = ['cifartui', *{arguments!r}]\ncifartui.main()"
    return pexpect.spawn(sys.executable, ["-c", code], dimensions=(24, 200), env=environment(runs_dir))


def read_until(process: Any, text: bytes) -> bytes:
    process.expect_exact(text, timeout=30)
    return bytes(process.before + process.after)


def read_to_the_end(process: Any) -> bytes:
    received = process.read()
    process.close()
    return bytes(received)
