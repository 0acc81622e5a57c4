"""Basic widgets: a Static that repaints only changes, a text field, the notice for small terminals."""

from collections.abc import Mapping
from functools import cache
from typing import Protocol, runtime_checkable

from rich.text import Text
from textual.binding import Binding
from textual.events import Key
from textual.widget import Widget
from textual.widgets import Input, Static


class ChangedStatic(Static):
    """Static that repaints only if its text changes: an unchanged text costs no bytes on the line."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.text = Text()

    def set_text(self, text: Text) -> None:
        """Show `text`, unless it is shown already."""
        if text == self.text and text.spans == self.text.spans:
            return
        lines = text.split("\n", allow_blank=True)
        fits = max(line.cell_len for line in lines) <= self.content_size.width
        self.text = text
        # A new layout paints the whole screen: only where the height is not the right one, or wrapping decides it.
        self.update(text, layout=self.styles.is_auto_height and not (fits and self.content_size.height == len(lines)))


@runtime_checkable
class TakesText(Protocol):
    """Screen with a field for text that arrives faster than a hand types, whatever has the focus."""

    def take_text(self, text: str) -> bool:
        """Put one line into the field; return False, and do nothing, if it is no text for it."""


_OF_THE_SCREEN = {"submit", "copy"}
_BURST_S = 0.05
"""A key so short after another one was typed before anybody saw what that did."""
_LEADS_ON_WITHIN_S = 0.3
"""An Enter that has moved the focus nowhere by then leads nowhere."""


class TextField(Input):
    """Input that applies a burst of keys in order, as it arrives on a slow line.

    Textual runs a field's bindings (backspace, ctrl+u, the arrows) after the key has gone up through all
    parents, and letters at once: of "backspace 2", the 2 comes first. Here both are done where they arrive. Keys that
    come in one burst with Enter, behind it, are for what Enter leads to: they are held until that has the focus.

    A field that is not shown is not given the focus. Textual gives it to the first widget of a screen that comes
    back without one, and would type keys into a filter that is closed.
    """

    def allow_focus(self) -> bool:
        """Return whether the field takes keys: it is shown, and so is all around it."""
        around = (node for node in self.ancestors_with_self if isinstance(node, Widget))
        return super().allow_focus() and all(widget.display for widget in around)

    _entered_at = 0.0
    """Time of the last Enter, as events have it."""
    _held: tuple[Key, ...] = ()
    """Keys that came in one burst with Enter."""

    async def _on_key(self, event: Key) -> None:
        if self._held or event.time - self._entered_at < _BURST_S:
            event.stop()
            event.prevent_default()
            if not self._held:
                self.set_timer(_LEADS_ON_WITHIN_S, self._release)
            self._held += (event,)
            return
        if event.key == "enter":
            self._entered_at = event.time
        action = _editing().get(event.key)
        if action is None:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        await self.run_action(action)

    def on_blur(self) -> None:
        """Hand the keys that are held to what has the focus now."""
        self._release()

    def on_unmount(self) -> None:
        """Hand the keys that are held to what has the focus now."""
        self._release()

    def _release(self) -> None:
        held, self._held, self._entered_at = self._held, (), 0.0
        for event in held:
            self.app.post_message(Key(event.key, event.character))


@cache
def _editing() -> Mapping[str, str]:
    """Return the actions of a field's own keys."""
    bindings = Binding.make_bindings(Input.BINDINGS)
    return {binding.key: binding.action for binding in bindings if binding.action not in _OF_THE_SCREEN}


MIN_COLUMNS, MIN_ROWS = 60, 16


class TooSmall(Static):
    """Notice for a small terminal; the style sheet hides it if the terminal is large enough."""

    def __init__(self) -> None:
        super().__init__(
            f"This terminal is too small.\n\ncifartui needs {MIN_COLUMNS} columns and {MIN_ROWS} rows.\n"
            "Training is not touched. Press q to leave."
        )
