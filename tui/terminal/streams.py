"""What may be written to a stream: which characters, and whether colours. Knows streams and the environment only."""

import os
from functools import cache
from typing import TextIO

from tui.terminal.capabilities import has_screen, speaks_utf8


def ascii_only(stream: TextIO) -> bool:
    """Return whether nothing but ASCII is sure to arrive: another encoding than UTF-8, the C locale, a bare console."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return not speaks_utf8(os.environ, encoding) or (stream.isatty() and os.environ.get("TERM") == "linux")


def in_ascii(text: str) -> str:
    """Return text with every character outside ASCII put into one that is like it, or a question mark."""
    from tui.terminal.fallback import to_ascii

    return to_ascii(text, _table())


@cache
def _table() -> dict[int, str]:
    from tui.terminal.fallback import ascii_table

    return ascii_table()


def may_colour(stream: TextIO) -> bool:
    """Return whether colours are wanted: a terminal that can be drawn on, and no NO_COLOR."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def one_line(text: str) -> str:
    """Return text from elsewhere on one line, without the control characters that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def can_draw(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal on which a line can be drawn over."""
    return stream.isatty() and bool(os.environ.get("TERM")) and has_screen(os.environ)
