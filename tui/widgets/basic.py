"""Basic widgets: a Static that repaints only changes, a text field, the notice for small terminals."""

from collections.abc import Mapping
from functools import cache

from rich.text import Text
from textual.binding import Binding
from textual.events import Key
from textual.widgets import Input, Static


class ChangedStatic(Static):
    """Shows text. Telling it twice the same thing costs nothing on the line."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.text = Text()

    def tell(self, text: Text) -> None:
        """Show `text`, unless it is shown already."""
        if text == self.text and text.spans == self.text.spans:
            return
        lines = text.split("\n", allow_blank=True)
        fits = max(line.cell_len for line in lines) <= self.content_size.width
        self.text = text
        # A new layout paints the whole screen: only where the height is not the right one, or wrapping decides it.
        self.update(text, layout=self.styles.is_auto_height and not (fits and self.content_size.height == len(lines)))


_OF_THE_SCREEN = {"submit", "copy"}


class TextField(Input):
    """Textual's Input, but for a burst of keys on a slow line.

    Textual runs a field's bindings (backspace, ctrl+u, the arrows) after the key has gone up through all
    parents, and letters at once: of "backspace 2", the 2 comes first. Here both are done where they arrive.
    """

    async def _on_key(self, event: Key) -> None:
        action = _editing().get(event.key)
        if action is None:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        await self.run_action(action)


@cache
def _editing() -> Mapping[str, str]:
    """Return what a field's own keys do."""
    bindings = Binding.make_bindings(Input.BINDINGS)
    return {binding.key: binding.action for binding in bindings if binding.action not in _OF_THE_SCREEN}


MIN_COLUMNS, MIN_ROWS = 60, 16


class TooSmall(Static):
    """Hidden by the style sheet as soon as there is room again."""

    def __init__(self) -> None:
        super().__init__(
            f"This terminal is too small.\n\ncifartui needs {MIN_COLUMNS} columns and {MIN_ROWS} rows.\n"
            "Training is not touched. Press q to leave."
        )
