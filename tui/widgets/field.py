"""A line to type into whose keys act in the order in which they come, however many come at once."""

from textual.events import Key
from textual.widgets import Input


class Field(Input):
    """Textual's Input, but for a burst of keys on a slow line.

    Textual runs a field's bindings (backspace, ctrl+u, the arrows) after the key has gone up through all
    parents, and letters at once: of "backspace 2", the 2 comes first. Here both are done where they arrive.
    """

    async def _on_key(self, event: Key) -> None:
        bindings = Input._merged_bindings.key_to_bindings.get(event.key) if Input._merged_bindings else None
        if not bindings or event.key == "enter":  # enter belongs to the screen as well
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        await self.run_action(bindings[0].action)
