"""A program in a pseudo-terminal, and the screen that it has drawn."""

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

import pexpect
import pyte

from tests.fork_client import ForkServer
from tests.waiting import wait_for

LINES, COLUMNS = 24, 80
LISTENS_S = 5.0
"""So long a screen that does not come to rest is listened to at most."""
_PATIENCE_S = 60


class Terminal:
    """`cifartui`, whose workers are forked, in a pseudo-terminal of `size` (lines, columns)."""

    def __init__(
        self,
        fork_server: ForkServer,
        runs_dir: Path,
        *arguments: str,
        size: tuple[int, int] = (LINES, COLUMNS),
        **environment: str,
    ) -> None:
        self.screen = pyte.Screen(size[1], size[0])
        self._stream = pyte.ByteStream(self.screen)
        variables: Any = {**os.environ, "CIFARTUI_RUNS": str(runs_dir), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self.received = b""
        program, *words = fork_server.command(*arguments)
        self.process = pexpect.spawn(
            program, words, dimensions=size, env={**variables, **fork_server.variables, **environment}
        )

    def text(self) -> str:
        """Return what is on the screen now: once nothing has come for a moment, or after a while if it goes on."""
        until = time.monotonic() + LISTENS_S
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while time.monotonic() < until:
                self._feed(self.process.read_nonblocking(65_536, timeout=0.1))
        return "\n".join(self.screen.display)

    def _feed(self, content: bytes) -> None:
        self.received += content
        # pyte takes the private "CSI > … m" of key protocols for a colour, and refuses it
        self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]", b"", content))

    def shows(self, *wanted: str) -> str:
        """Wait until every one of `wanted` is on the screen, and return it."""
        seen = ""

        def all_there() -> bool:
            nonlocal seen
            seen = self.text()
            return all(text.lower() in seen.lower() for text in wanted)

        try:
            wait_for(all_there, f"{wanted} on the screen", patience_s=_PATIENCE_S)
        except AssertionError:
            raise AssertionError(f"{wanted} never came; the screen:\n{seen}") from None
        return seen

    def words(self) -> list[list[str]]:
        """Return the words of every row: what stays when numbers, curves and bars move on."""
        return [re.findall(r"[A-Za-z]{2,}", row) for row in self.text().splitlines()]

    def resize(self, lines: int, columns: int) -> None:
        self.screen.resize(lines, columns)
        self.process.setwinsize(lines, columns)

    def press(self, keys: str) -> None:
        self.process.send(keys)

    def type(self, keys: str) -> None:
        """Send keys as a terminal with kitty's protocol does: sequences, which no busy machine makes a burst of."""
        self.process.send("".join(f"\x1b[{ord(key)};;{ord(key) if key.isprintable() else ''}u" for key in keys))

    def hang_up(self) -> None:
        """Take the terminal away, as when the line drops: nobody signals or kills the program but the kernel."""
        inner = self.process.ptyproc
        inner.fileobj.close()
        inner.closed, inner.fd = True, -1

    def ended(self) -> bool:
        self.text()
        return not self.process.isalive()
