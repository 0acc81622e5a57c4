"""Copying text by way of the terminal (OSC 52), which also reaches the clipboard at the other end of an SSH line."""

import base64
import os
from typing import TYPE_CHECKING, Any

from presets.safe_text import visible_in_a_row
from tui.terminal.capabilities import through_tmux

if TYPE_CHECKING:
    from textual.app import App


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
