"""Key bar: the keys of a screen in its last row, as many as fit, help and leaving always.

Bindings with `show` come first; where the row has room left, so do the screen's others.

Textual's own Footer is a widget a key, laid out anew whenever one comes or goes; this is one row of text.
"""

from collections.abc import Collection

from rich.text import Text
from textual.binding import Binding
from textual.events import Click

from tui.theme import MUTED, TRAIN
from tui.widgets.basic import ChangedStatic

_ALWAYS = ("help", "leave")
_GAP = 2
_MOVES = {"escape", "left", "right", "up", "down", "pageup", "pagedown", "home", "end"}
"""Keys that everybody tries, and that take no room from others."""


class KeyBar(ChangedStatic):
    """Row of the bindings of its screen, but for those in its `idle_actions`. A key can be clicked."""

    DEFAULT_CSS = "KeyBar { dock: bottom; height: 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, str]] = []
        """End column of each key's text, and the key."""

    def on_mount(self) -> None:
        """Follow the keys on offer."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self._show())
        self._show()

    def on_resize(self) -> None:
        """Show as many keys as fit now."""
        self._show()

    def on_click(self, event: Click) -> None:
        """Press the key that is clicked."""
        at = event.get_content_offset(self)
        key = next((key for end, key in self._places if at is not None and at.x < end), None)
        if key is not None:
            self.app.simulate_key(key)

    def _show(self) -> None:
        texts, keys = {}, {}
        idle: Collection[str] = getattr(self.screen, "idle_actions", ())
        order = _declared(type(self.screen))
        found = sorted(self.screen.active_bindings.values(), key=lambda each: order.get(each.binding.action, -1))
        others = [each for each in found if each.node is self.screen and each.enabled and _may_be_shown(each.binding)]
        for active in (*(each for each in found if each.binding.show), *others):
            binding = active.binding
            if binding.action not in texts and binding.action not in idle:
                display = (self.app.get_key_display(binding), TRAIN if active.enabled else MUTED)
                texts[binding.action] = Text.assemble(display, (f" {binding.description}", MUTED))
                keys[binding.action] = binding.key
        always = [action for action in _ALWAYS if action in texts]
        if not always:  # the screen is only just coming up, and the app's own keys are not known yet
            return
        width = self.content_size.width or self.app.size.width - 2  # the first paint comes before the first layout
        room = width - sum(texts[action].cell_len + _GAP for action in always)
        row, self._places = Text(no_wrap=True), []
        for action in [*(action for action in texts if action not in always), *always]:
            if row.cell_len + texts[action].cell_len <= room or action in always:
                row.append_text(texts[action]).append(" " * _GAP)
                self._places.append((row.cell_len, keys[action]))
        self.set_text(row)


def _may_be_shown(binding: Binding) -> bool:
    """Return whether a binding without `show` is one that people may want to see."""
    return (
        not binding.show
        and bool(binding.description and binding.tooltip)
        and binding.key.rpartition("+")[2] not in _MOVES
    )


def _declared(screen: type) -> dict[str, int]:
    """Return the place of every action among the bindings of a screen: one with another key keeps its place."""
    bindings = [binding for owner in reversed(screen.__mro__) for binding in vars(owner).get("BINDINGS", ())]
    return {binding.action: place for place, binding in enumerate(bindings) if isinstance(binding, Binding)}
