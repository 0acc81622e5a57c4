"""The dashboard in pseudo-terminals that can show little, and a configuration that it refuses before it opens."""

import contextlib
import os
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from tests.terminal import LISTENS_S
from tests.ui.sample_run import SampleRun
from tests.waiting import wait_for

LINES, COLUMNS = 24, 80
OTHER_SAY = ("LC_ALL", "LC_CTYPE", "LANG", "COLORTERM", "NO_COLOR", "TMUX", "TERM_PROGRAM", "CIFARTUI_CONFIG")
ALTERNATE_SCREEN = b"\x1b[?1049h"


def environment(runs_dir: Path, **named: str) -> Any:
    kept = {name: value for name, value in os.environ.items() if name not in OTHER_SAY}
    return {**kept, "CIFARTUI_RUNS": str(runs_dir), **named}


def sent_to(runs_dir: Path, keys: str, *arguments: str, **named: str) -> tuple[bytes, str]:
    """Open a run, press keys and leave; return all bytes that were sent, and the screen before the last key."""
    process = pexpect.spawn(
        sys.executable,
        ["-m", "cifartui", "attach", *arguments],
        dimensions=(LINES, COLUMNS),
        env=environment(runs_dir, **named),
    )
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    sent = b""

    def shows(text: str) -> bool:
        nonlocal sent
        until = time.monotonic() + LISTENS_S
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while time.monotonic() < until:
                new = process.read_nonblocking(65_536, timeout=0.1)
                sent += new
                stream.feed(new)
        return text in "\n".join(screen.display)

    try:
        wait_for(lambda: shows("top-1 %"), "the plots", patience_s=30)
        for key, text in zip(keys, ("Keys", "top-1 %"), strict=True):
            process.send(key)
            wait_for(lambda text=text: shows(text), text, patience_s=30)  # type: ignore[misc]
        seen = "\n".join(screen.display)
        process.send("q")
        wait_for(lambda: shows("") and not process.isalive(), "leaving", patience_s=30)
    finally:
        process.close(force=True)
    return sent, seen


@pytest.fixture
def ended_run(tmp_path: Path) -> Path:
    """A runs folder with one run that has ended."""
    with SampleRun(tmp_path / "runs").begin().prepare() as run:
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        run.finish()
    return tmp_path / "runs"


@pytest.mark.parametrize("named", [{"TERM": "linux", "LANG": "C"}, {"TERM": "xterm-256color", "LC_ALL": "C"}])
def test_only_ascii_is_sent_where_the_terminal_has_no_more(ended_run: Path, named: dict[str, str]) -> None:
    sent, seen = sent_to(ended_run, "?q", **named)
    assert sent.isascii(), sorted({char for char in sent.decode(errors="replace") if not char.isascii()})
    assert "= train" in seen


def test_in_an_east_asian_locale_no_sign_of_ambiguous_width_is_sent(ended_run: Path) -> None:
    sent, seen = sent_to(ended_run, "?q", TERM="xterm-256color", LC_ALL="ja_JP.UTF-8", PYTHONUTF8="1")
    signs = {char for char in sent.decode(errors="replace") if unicodedata.east_asian_width(char) == "A"}
    assert signs == set()
    assert "= train" in seen
    assert any("\u2800" < char < "\u2900" for char in sent.decode(errors="replace"))


def test_no_colour_is_sent_with_no_color(ended_run: Path) -> None:
    sent, seen = sent_to(ended_run, "?q", TERM="xterm-256color", LANG="C.UTF-8", COLORTERM="truecolor", NO_COLOR="1")
    codes = {code for found in re.findall(rb"\x1b\[([\d;]*)m", sent) for code in found.split(b";")}
    assert codes <= {b"", b"0", b"1", b"2", b"7", b"39", b"49"}
    assert "━ train" in seen


def test_sixteen_colours_and_no_more_are_sent_to_a_terminal_that_names_no_more(ended_run: Path) -> None:
    sent, _ = sent_to(ended_run, "?q", TERM="xterm", LANG="C.UTF-8")
    assert not re.search(rb"\x1b\[[\d;]*[34]8;[25];", sent)
    assert re.search(rb"\x1b\[[\d;]*96", sent)  # the training curve


def test_an_option_overrides_the_file(ended_run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('colors = "none"\n')
    named = {"TERM": "xterm", "LANG": "C.UTF-8", "CIFARTUI_CONFIG": str(tmp_path / "config.toml")}
    sent, _ = sent_to(ended_run, "?q", "--colors", "truecolor", "--theme", "light", **named)
    assert b"48;2;248;249;251" in sent


@pytest.mark.parametrize(
    ("named", "text", "said"),
    [
        ({"TERM": "xterm"}, 'theme = "drak"', 'theme must be "dark" or "light", not "drak"'),
        ({"TERM": "xterm"}, '[keys]\n"monitor.stpo" = "x"', 'did you mean "monitor.stop"?'),
        ({"TERM": "dumb"}, "", "TERM=dumb says that this one cannot"),
    ],
)
def test_what_cannot_be_is_said_before_the_screen_changes(
    runs_dir: Path, tmp_path: Path, named: dict[str, str], text: str, said: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    process = pexpect.spawn(
        sys.executable,
        ["-m", "cifartui"],
        dimensions=(LINES, 200),
        env=environment(runs_dir, CIFARTUI_CONFIG=str(tmp_path / "config.toml"), LANG="C.UTF-8", **named),
    )
    sent = process.read()
    process.close()
    assert process.exitstatus == 2
    assert ALTERNATE_SCREEN not in sent
    assert said in sent.decode()
    assert len(sent.decode().splitlines()) == 1


def test_doctor_reports_a_configuration_that_is_not_valid(
    cifartui: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("bell = 3")
    said = cifartui("doctor", CIFARTUI_CONFIG=str(tmp_path / "config.toml"))
    assert said.returncode == 1
    assert "problem  config" in said.stdout
    assert "bell must be true or false, not 3." in said.stdout
