"""Terminal sequences: clipboard (OSC 52), bell and notifications (OSC 9 and 777), tmux passthrough."""

import base64
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from presets.safe_text import visible_in_a_row
from tui import format as fmt
from tui.data.summary import Summary
from tui.terminal.capabilities import through_tmux
from tui.terminal.streams import one_line
from tui.text.run_text import is_live

if TYPE_CHECKING:
    from textual.app import App


_OSC_9_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "ghostty"})
_OSC_9_TERMS = ("xterm-kitty", "xterm-ghostty", "wezterm")
_OSC_777_TERMS = ("rxvt-unicode", "foot", "contour")
_LONGEST = 200
_BELL = "\a"


def sequences(environment: Mapping[str, str], title: str, text: str) -> str:
    """Return what makes this terminal show a notification; nothing where it is not known to show any."""
    title, text = _short(title).replace(";", ","), _short(text)
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
    return through_tmux(sequence) if in_tmux else sequence


def _short(text: str) -> str:
    return fmt.cut(one_line(text), _LONGEST).replace("…", "...")  # also where only ASCII is shown


def newly_ended(before: Sequence[Summary], after: Sequence[Summary]) -> list[Summary]:
    """Return the runs that were alive in one listing and are not in the next."""
    alive = {run.id for run in before if is_live(run.status)}
    return [run for run in after if run.id in alive and not is_live(run.status)]


def copying(text: str) -> str:
    """Return the sequence that copies `text`."""
    return f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\a"


def copy(app: "App[Any]", text: str) -> None:
    """Ask the terminal to put `text` on its clipboard, as it is shown: pasted, a newline in it would be obeyed.

    Nothing tells whether it did.
    """
    text = visible_in_a_row(text)
    app.copy_to_clipboard(text)  # plain: what tmux itself takes, where `set-clipboard` is on
    if os.environ.get("TMUX") and app._driver is not None:
        app._driver.write(through_tmux(copying(text)))
