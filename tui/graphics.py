"""Whether the terminal can show real images, by Kitty's protocol or as sixels, and the widget that does.

Decided by names in the environment, which SSH hands on, and never by asking the terminal: over a slow line
its answer would arrive late and be taken for keys.
"""

import fcntl
import io
import os
import struct
import sys
import termios
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Protocol: TypeAlias = Literal["kitty", "sixel"]
_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_SIXEL_TERMS = ("foot", "mlterm", "contour", "yaft")
_SIXEL_PROGRAMS = frozenset({"WezTerm", "iTerm.app"})


def protocol(environment: Mapping[str, str]) -> Protocol | None:
    """Return how this terminal shows images, or None for half blocks; CIFARTUI_IMAGES=blocks|kitty|sixel decides."""
    forced = environment.get("CIFARTUI_IMAGES", "")
    if forced in {"kitty", "sixel"}:
        return "kitty" if forced == "kitty" else "sixel"
    if forced or "TMUX" in environment or "STY" in environment:  # tmux and screen pass neither on
        return None
    term = environment.get("TERM", "")
    if term.startswith(_KITTY_TERMS):
        return "kitty"
    if term.startswith(_SIXEL_TERMS) or environment.get("TERM_PROGRAM") in _SIXEL_PROGRAMS:
        return "sixel"
    return None


def image_widget() -> Any:
    """Return textual-image's widget class for this terminal, or None where half blocks have to do."""
    wanted = protocol(os.environ)
    size = _cell_size() if wanted is not None else None
    if size is None:
        return None
    os.environ.setdefault("TEXTUAL_CELL_WIDTH", str(size[0]))
    os.environ.setdefault("TEXTUAL_CELL_HEIGHT", str(size[1]))
    stdout = sys.__stdout__
    try:
        sys.__stdout__ = io.StringIO()  # type: ignore[misc,assignment]  # at import the library asks a terminal, but not a string
        from textual_image.widget import SixelImage, TGPImage
    finally:
        sys.__stdout__ = stdout  # type: ignore[misc]
    return TGPImage if wanted == "kitty" else SixelImage


def _cell_size() -> tuple[int, int] | None:
    """Return the width and height of a character in pixels, or None where the terminal does not tell."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            assert stream is not None
            answer = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        except (OSError, ValueError, AssertionError):
            continue
        rows, columns, width, height = struct.unpack("HHHH", answer)
        if rows and columns and width and height:
            return width // columns, height // rows
    return None
