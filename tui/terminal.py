"""What the terminal can show, decided by names in the environment and never by asking it, as in tui/graphics.py.

Pure functions from the environment to a choice and its reason; knows nothing of files or widgets.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from tui.look import ColorDepth, PlotStyle

_Value = TypeVar("_Value")
_NO_SCREEN = frozenset({"dumb", "unknown"})
_WITHOUT_BRAILLE = ("putty",)
"""Terminals that know UTF-8, but whose usual fonts have blocks and no braille."""
_TRUECOLOR_TERMS = ("xterm-kitty", "xterm-ghostty", "foot", "alacritty", "wezterm", "contour")
"""SSH hands TERM on and COLORTERM not, so the name has to do."""
_COERCED = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})
"""What Python itself writes into LC_CTYPE where it finds the C locale (PEP 538); the user's word is then in LANG."""


class Choice(Struct, Generic[_Value], frozen=True):
    """What was chosen and why, as a clause."""

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
    name, locale = _locale(environment)
    if not _is_utf8(locale, encoding):
        return Choice("ascii", f"{name}={locale} is not UTF-8" if locale else f"the locale's encoding is {encoding}")
    if term.startswith(_WITHOUT_BRAILLE):
        return Choice("blocks", f"fonts of {term} often lack braille")
    return Choice("braille", f"{name}={locale}" if locale else "UTF-8, as no locale is set")


def _locale(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that decides on characters and its value, or two empty texts where none is set."""
    named = {name: environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    if named["LC_CTYPE"] in _COERCED and named["LANG"]:
        named["LC_CTYPE"] = ""
    return next(((name, value) for name, value in named.items() if value), ("", ""))


def _is_utf8(locale: str, encoding: str) -> bool:
    if locale in {"C", "POSIX"}:
        return False
    codeset = locale.partition(".")[2].partition("@")[0] or encoding  # Python says UTF-8 of a locale not installed here
    return codeset.lower().replace("-", "") == "utf8"


def color_depth(environment: Mapping[str, str]) -> Choice[ColorDepth]:
    """Return how many colours are sent here. Names more terminals than Rich does."""
    if environment.get("NO_COLOR"):
        return Choice("none", "NO_COLOR is set")
    color_term = environment.get("COLORTERM", "").strip().lower()
    if color_term in {"truecolor", "24bit"}:
        return Choice("truecolor", f"COLORTERM={color_term}")
    term = environment.get("TERM", "").lower()
    said = f"TERM={term}" if term else "TERM is not set"
    if term.startswith(_TRUECOLOR_TERMS) or term.endswith("-direct"):
        return Choice("truecolor", said)
    return Choice("256" if "256color" in term else "16", said)
