"""A line to type into whose keys act in the order in which they come, however many come at once."""

from collections.abc import Mapping
from functools import cache

from textual.binding import Binding
from textual.events import Key
from textual.widgets import Input

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
