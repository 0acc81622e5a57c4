"""Telling somebody who looks elsewhere that a run ended: the bell, and the terminal's own notifications.

Decided by names in the environment; a terminal that does not say it knows notifications gets the bell alone.
"""

from collections.abc import Mapping, Sequence

from tui.summary import Summary
from tui.words import is_live

_OSC_9_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "ghostty"})
_OSC_9_TERMS = ("xterm-kitty", "xterm-ghostty", "wezterm")
_OSC_777_TERMS = ("rxvt-unicode", "foot", "contour")
_LONGEST = 200
_BELL = "\a"


def sequences(environment: Mapping[str, str], title: str, text: str) -> str:
    """Return what makes this terminal show a notification; nothing where it is not known to show any."""
    title, text = _printable(title).replace(";", ","), _printable(text)
    term = environment.get("TERM", "")
    program = environment.get("TERM_PROGRAM") or ""
    in_tmux = "TMUX" in environment
    if "STY" in environment:  # GNU screen hands nothing on
        return ""
    if (
        program in _OSC_9_PROGRAMS
        or term.startswith(_OSC_9_TERMS)
        or environment.get("LC_TERMINAL") == "iTerm2"
        or (in_tmux and any(name in environment for name in ("KITTY_WINDOW_ID", "WEZTERM_PANE", "GHOSTTY_BIN_DIR")))
    ):
        return _handed_on(f"\x1b]9;{title}: {text}{_BELL}", in_tmux)
    if term.startswith(_OSC_777_TERMS):
        return _handed_on(f"\x1b]777;notify;{title};{text}{_BELL}", in_tmux)
    return ""


def _handed_on(sequence: str, in_tmux: bool) -> str:
    """Return the sequence wrapped so that tmux hands it to the terminal around it (with allow-passthrough on)."""
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\" if in_tmux else sequence


def _printable(text: str) -> str:
    safe = "".join(char if char.isprintable() else " " for char in text)
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 3]}..."


def newly_ended(before: Sequence[Summary], after: Sequence[Summary]) -> list[Summary]:
    """Return the runs that were alive in one listing and are not in the next."""
    alive = {run.id for run in before if is_live(run.status)}
    return [run for run in after if run.id in alive and not is_live(run.status)]
