"""Images in pseudo-terminals that know Kitty's protocol or sixels, or neither. None of them answers a question."""

import contextlib
import fcntl
import os
import struct
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.terminal import LISTENS_S
from tests.ui.sample_run import SampleRun
from tests.ui.test_predictions import store
from tests.waiting import wait_for

LINES, COLUMNS = 40, 120


def seen_on(term: str, runs_dir: Path, wanted: bytes) -> bytes:
    """Open the Predictions screen on a terminal called `term`; return all that it was sent, once `wanted` is in it."""
    environment: Any = {**os.environ, "CIFARTUI_RUNS": str(runs_dir), "TERM": term, "LANG": "C.UTF-8"}
    for name in ("TMUX", "STY", "CIFARTUI_IMAGES", "TERM_PROGRAM"):
        environment.pop(name, None)
    process = pexpect.spawn(sys.executable, ["-m", "cifartui", "attach"], dimensions=(LINES, COLUMNS), env=environment)
    fcntl.ioctl(process.child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, COLUMNS * 9, LINES * 18))
    sent = b""

    def has(text: bytes) -> bool:
        nonlocal sent
        until = time.monotonic() + LISTENS_S
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while time.monotonic() < until:
                sent += process.read_nonblocking(65_536, timeout=0.1)
        return text in sent

    try:
        wait_for(lambda: has(b"images"), "the Monitor's keys", patience_s=30)
        process.send("i")
        wait_for(lambda: has(wanted), f"{wanted!r} on {term}", patience_s=30)
    finally:
        process.close(force=True)
    return sent


@pytest.mark.parametrize(
    ("term", "wanted", "unwanted"),
    [
        ("xterm-256color", "▀".encode(), (b"\x1b_G", b"\x1bPq", b"\x1bP0")),
        ("xterm-kitty", b"\x1b_G", ()),
        ("foot", b"\x1bP", (b"\x1b_G",)),
    ],
)
def test_images_come_as_the_terminal_shows_them(
    runs_dir: Path, term: str, wanted: bytes, unwanted: tuple[bytes, ...]
) -> None:
    with SampleRun(runs_dir).begin().prepare() as run:
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        run.finish()
        store(run)
        sent = seen_on(term, runs_dir, wanted)
    assert not any(text in sent for text in unwanted)
    if term != "xterm-256color":
        assert b"\x1b[c" not in sent  # it was not asked
