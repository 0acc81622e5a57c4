"""Keys that come in a burst act in the order in which they were typed."""

import pytest
from textual import events
from textual.app import App, ComposeResult

from tui.widgets.basic import TextField


class OneField(App[None]):
    def compose(self) -> ComposeResult:
        yield TextField("15", select_on_focus=False)


def burst(app: App[None], *keys: str) -> None:
    """Let keys arrive before any of them is worked on."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("backspace", "backspace", "2", "0"), "20"),
        (("ctrl+u", "3", "0"), "30"),
        (("left", "7"), "175"),
        (("home", "delete", "2"), "25"),
        (("a", "backspace", "b", "left", "c"), "15cb"),
    ],
)
async def test_a_burst_of_keys_is_taken_in_its_order(keys: tuple[str, ...], text: str) -> None:
    app = OneField()
    async with app.run_test() as pilot:
        burst(app, *keys)
        await pilot.pause()
        assert app.query_one(TextField).value == text
