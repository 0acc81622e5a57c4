"""Faults of any thread of the dashboard, of what others print, and of the terminal's output: the real program."""

import errno
from pathlib import Path

import pytest

from tests.integration.test_terminal_words import in_python, modes_left_on, read_to_the_end, read_until

WHERE = {
    "a thread": (
        "import threading\ntui.app.CifartuiApp.action_help = lambda self: threading.Thread(target=fault).start()"
    ),
    "a call in the loop": "tui.app.CifartuiApp.action_help = lambda self: self._loop.call_soon(fault)",
    "a task that nobody waits for": (
        "import asyncio\nasync def later(): fault()\n"
        "tui.app.CifartuiApp.action_help = lambda self: asyncio.ensure_future(later()) and None"
    ),
    "the thread that reads keys": (
        "feed = tui.terminal.driver.Keyboard.feed\n"
        "tui.terminal.driver.Keyboard.feed = lambda self, content, now: "
        "fault() if content == b'?' else feed(self, content, now)"
    ),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_fault_of_any_thread_is_told_and_its_traceback_is_in_the_file(tmp_path: Path, where: str) -> None:
    fault = "def fault(*_): raise ValueError('a fault of ours')\n"
    process = in_python(tmp_path, fault + WHERE[where])
    received = read_until(process, b"demo")
    process.send("?")
    received += read_to_the_end(process)
    assert process.exitstatus == 1
    assert "in fault" in traceback_of(received)
    assert b"Traceback" not in received
    assert modes_left_on(received) == set()


def test_what_libraries_print_is_not_on_the_screen_and_is_said_at_the_end(tmp_path: Path) -> None:
    printing = (
        "import os, subprocess, warnings\n"
        "def printing(self):\n"
        "    os.write(1, b'WORD of descriptor 1\\n'); os.write(2, b'WORD of descriptor 2\\x1b[2J\\n')\n"
        "    subprocess.run(['echo', 'WORD of a child'])\n"
        "    print('WORD of Python')\n"
        "    warnings.warn('WORD of warning')\n"
        "    self.push_screen(tui.screens.dialogs.Help())\n"
        "import tui.screens.dialogs\n"
        "tui.app.CifartuiApp.action_help = printing"
    )
    process = in_python(tmp_path, printing)
    received = read_until(process, b"demo")
    process.send("?")
    received += read_until(process, b"Keys")
    assert b"WORD" not in received
    process.send("qq")
    rest = read_to_the_end(process)
    assert process.exitstatus == 0
    said = rest.decode().rpartition("\x1b[?1049l")[2]
    assert [each for each in ("descriptor 1", "descriptor 2", "a child", "Python", "warning") if each not in said] == []
    assert "\x1b[2J" not in said
    assert b"WORD" not in rest.rpartition(b"\x1b[?1049l")[0]


REFUSED = (
    "import os, types, tui.terminal.output as output\n"
    "refuses = False\n"
    "def write(fd, content):\n"
    "    if refuses and threading.current_thread().name == 'textual-output': raise OSError({number}, 'refused')\n"
    "    return os.write(fd, content)\n"
    "def refuse(self):\n"
    "    global refuses\n"
    "    refuses = True\n"
    "    self.refresh(layout=True); self.notify('changed')\n"
    "import threading\n"
    "output.os = types.SimpleNamespace(**{{**vars(os), 'write': write}})\n"
    "tui.app.CifartuiApp.action_help = refuse"
)


def test_output_that_the_terminal_refuses_is_a_fault_and_the_terminal_is_given_back(tmp_path: Path) -> None:
    process = in_python(tmp_path, REFUSED.format(number=errno.ENOSPC))
    received = read_until(process, b"demo")
    process.send("?")
    received += read_to_the_end(process)
    assert process.exitstatus == 1
    assert "refused" in traceback_of(received)
    assert modes_left_on(received) == set()


def test_output_to_a_terminal_that_is_gone_ends_as_a_hang_up(tmp_path: Path) -> None:
    process = in_python(tmp_path, REFUSED.format(number=errno.EIO))
    read_until(process, b"demo")
    process.send("?")
    received = read_to_the_end(process)
    assert process.exitstatus == 129
    assert b"fault" not in received


def test_a_terminal_that_another_program_set_not_to_block_is_waited_for(tmp_path: Path) -> None:
    patch = (
        "import os, tui.screens.dialogs\n"
        "def fill(self):\n"
        "    os.set_blocking(0, False)\n"  # as a program does that shares the terminal
        "    self._driver._writer_thread.write('\\x1b[0m' * 100_000)\n"  # more than it holds unread
        "    self.push_screen(tui.screens.dialogs.Help())\n"
        "tui.app.CifartuiApp.action_help = fill"
    )
    process = in_python(tmp_path, patch)
    received = read_until(process, b"demo")
    process.send("?")
    received += read_until(process, b"Keys")
    process.send("qq")
    received += read_to_the_end(process)
    assert process.exitstatus == 0, received[-2000:]
    assert received.count(b"\x1b[0m") >= 100_000
    assert modes_left_on(received) == set()


def traceback_of(received: bytes) -> str:
    said = received.decode().splitlines()[-1]
    assert "the dashboard ended by a fault of its own" in said, said
    return Path(said.split(" is in ")[1].strip()).read_text()
