"""What may be written to a stream: which characters, and whether colours. Knows streams and the environment only."""

import os
import sys
from typing import TextIO


def ascii_only(stream: TextIO) -> bool:
    """Return whether nothing but ASCII is sure to arrive: another encoding than UTF-8, the C locale, a bare console."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return encoding != "utf8" or _is_c_locale() or (stream.isatty() and os.environ.get("TERM") == "linux")


def _is_c_locale() -> bool:
    """Return whether the locale is C: Python then writes UTF-8 all the same, whatever the terminal makes of it.

    A locale that was asked for by a UTF-8 name and is not installed here says of the terminal what its name says.
    """
    if not sys.flags.utf8_mode or os.environ.get("PYTHONUTF8"):
        return False
    asked = os.environ.get("LC_ALL") or os.environ.get("LANG") or "C"  # Python has overwritten LC_CTYPE
    return "utf" not in asked.lower()


def in_ascii(text: str) -> str:
    """Return text with every character outside ASCII put into one that is like it, or a question mark."""
    from tui.glyphs import ascii_table, to_ascii

    return to_ascii(text, ascii_table())


def may_colour(stream: TextIO) -> bool:
    """Return whether colours are wanted: a terminal that knows them, and no NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in {"", "dumb"}


def one_line(text: str) -> str:
    """Return text from elsewhere on one line, without the control characters that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)
