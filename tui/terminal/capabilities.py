"""Capabilities of the terminal: UTF-8, colours, plot style, Kitty or sixel graphics.

Decided from names in the environment, never by asking the terminal.
"""

import fcntl
import io
import os
import struct
import sys
import termios
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

from tui.display import ColorDepth, PlotStyle

_Value = TypeVar("_Value")
_NO_SCREEN = frozenset({"dumb", "unknown"})
_WITHOUT_BRAILLE = ("putty",)
"""Terminals with UTF-8 whose usual fonts have blocks and no braille."""
_TRUECOLOR_TERMS = ("xterm-kitty", "xterm-ghostty", "foot", "alacritty", "wezterm", "contour")
"""SSH passes TERM on and COLORTERM not, so the name decides."""
_COERCED = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})
"""Values that Python itself writes into LC_CTYPE if it finds the C locale (PEP 538); LANG then decides.

The user may have written them, which cannot be distinguished; LANG decides then too.
"""


_EAST_ASIAN = ("zh", "ja", "ko")


class Choice(Struct, Generic[_Value], frozen=True):
    """A value chosen, and the reason as a clause."""

    value: _Value
    why: str


def has_screen(environment: Mapping[str, str]) -> bool:
    """Return whether the terminal can move its cursor at all."""
    return environment.get("TERM", "").lower() not in _NO_SCREEN


def plot_style(environment: Mapping[str, str], encoding: str) -> Choice[PlotStyle]:
    """Return what plots are drawn with here; `encoding` is the locale's, as Python sees it."""
    term = environment.get("TERM", "")
    if term == "linux":
        return Choice("ascii", "the Linux console's font has no braille")
    if not has_screen(environment):
        return Choice("ascii", f"TERM={term}")
    utf8 = _utf8(environment, encoding)
    if not utf8.value:
        return Choice("ascii", utf8.why)
    if term.startswith(_WITHOUT_BRAILLE):
        return Choice("blocks", f"fonts of {term} often lack braille")
    return Choice("braille", utf8.why)


def speaks_utf8(environment: Mapping[str, str], encoding: str) -> bool:
    """Return whether the terminal takes UTF-8: `encoding`, as Python sees it, is that, and so is the user's locale.

    Both have to be: in the C locale, and in one that is not installed here, Python writes UTF-8 all the same,
    whatever the terminal makes of it. Where no locale is set, it is the C locale.
    """
    return _utf8(environment, encoding).value


def _utf8(environment: Mapping[str, str], encoding: str) -> Choice[bool]:
    if environment.get("PYTHONUTF8") == "1" and _is_utf8(encoding):
        return Choice(True, "PYTHONUTF8=1")
    name, locale = _locale(environment)
    if not locale:
        return Choice(False, "no locale is set by LANG or LC_ALL")
    text = f"{name}={locale}"
    if locale in {"C", "POSIX"} or not _is_utf8(locale.partition(".")[2].partition("@")[0] or encoding):
        return Choice(False, f"{text} is not UTF-8")
    return Choice(True, text) if _is_utf8(encoding) else Choice(False, f"{text}, but the encoding is {encoding}")


def _locale(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that decides on characters and its value, or two empty texts where none is set."""
    named = {name: environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    if named["LC_CTYPE"] in _COERCED:
        named["LC_CTYPE"] = ""
    return next(((name, value) for name, value in named.items() if value), ("", ""))


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "") == "utf8"


def through_tmux(sequence: str) -> str:
    """Return the sequence wrapped so that tmux passes it on to the terminal around it.

    tmux takes what is inside with every escape doubled, where `allow-passthrough` is on.
    """
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"


def color_depth(environment: Mapping[str, str]) -> Choice[ColorDepth]:
    """Return how many colours are sent here. Names more terminals than Rich does."""
    if environment.get("NO_COLOR"):
        return Choice("none", "NO_COLOR is set")
    if screen := _gnu_screen(environment):
        return Choice("256", f"GNU screen ({screen}) hands on no more")
    color_term = environment.get("COLORTERM", "").strip().lower()
    if color_term in {"truecolor", "24bit"}:
        return Choice("truecolor", f"COLORTERM={color_term}")
    term = environment.get("TERM", "").lower()
    text = f"TERM={term}" if term else "TERM is not set"
    if term.startswith(_TRUECOLOR_TERMS) or term.endswith("-direct"):
        return Choice("truecolor", text)
    return Choice("256" if "256color" in term else "16", text)


def _gnu_screen(environment: Mapping[str, str]) -> str:
    """Return what says that GNU screen is around the program, or "". COLORTERM is that of the terminal around it.

    tmux calls itself screen too, and names itself.
    """
    if "STY" in environment:
        return "STY is set"
    term = environment.get("TERM", "")
    return f"TERM={term}" if term.lower().startswith("screen") and "TMUX" not in environment else ""


def wide_signs(environment: Mapping[str, str]) -> Choice[bool]:
    """Return whether signs of ambiguous width (Unicode TR11) may take two columns here: in East Asian locales."""
    name, locale = _locale(environment)
    return Choice(locale.startswith(_EAST_ASIAN), f"{name}={locale}" if locale else "no locale is set")


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
    """Return the width and height of a character in pixels, or None if the terminal does not report them."""
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
