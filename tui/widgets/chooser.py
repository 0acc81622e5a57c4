"""The left side of Home: the list of presets, the filter above it, and how many are marked below it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from tui.widgets import home_rows
from tui.widgets.basic import Quiet, TextField
from tui.widgets.lists import PresetList

if TYPE_CHECKING:
    from presets.catalog import Listed


class Chooser(Vertical):
    """Shows presets, filters them as typed, counts the marked ones."""

    def __init__(self, *, id: str | None = None, sign: str = "✓") -> None:
        """Mark with `sign`."""
        super().__init__(id=id)
        self._sign = sign
        self._listed: Sequence[Listed] = ()

    def compose(self) -> ComposeResult:
        """Lay the column out."""
        with Horizontal(id="filter-row"):
            yield TextField(placeholder="filter", id="filter", compact=True)
            yield Quiet(id="matches")
        yield PresetList(id="presets", sign=self._sign)
        yield Quiet(id="marks")

    def on_mount(self) -> None:
        """Hide what has nothing to say yet."""
        self.query_one("#filter-row").display = self.query_one("#marks").display = False

    def show(self, listed: Sequence["Listed"]) -> None:
        """Show presets, all of them."""
        self._listed = listed
        self._filter("")
        self.query_one(PresetList).focus()

    def open_filter(self) -> None:
        """Let a filter be typed."""
        self.query_one("#filter-row").display = True
        self.query_one("#filter", Input).focus()

    def leave_filter(self) -> None:
        """Go from the filter to what it found."""
        self.query_one(PresetList).focus()

    def close_filter(self) -> bool:
        """Show every preset again; return whether a filter was open."""
        row, was_open = self.query_one("#filter-row"), self.query_one("#filter-row").display
        self.query_one("#filter", Input).value = ""
        row.display = False
        self.query_one(PresetList).focus()
        return was_open

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as typed."""
        self._filter(event.value)

    def on_input_submitted(self) -> None:
        """Go to the list."""
        self.leave_filter()

    def _filter(self, wanted: str) -> None:
        num_found = self.query_one(PresetList).show(self._listed, wanted)
        self.query_one("#matches", Quiet).tell(home_rows.matches(num_found, len(self._listed)))

    def on_preset_list_marked(self) -> None:
        """Say how many are marked, and what Enter does with them."""
        row, num_marked = self.query_one("#marks", Quiet), len(self.query_one(PresetList).marked)
        row.display = num_marked > 0
        row.tell(home_rows.marks(num_marked))
