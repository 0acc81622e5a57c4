"""The right side of Home: a preset described, its layer table, and how much of either is out of sight."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from tui import format as fmt
from tui.theme import MUTED, TRAIN
from tui.widgets.basic import Quiet

if TYPE_CHECKING:
    from tui.data.network_facts import Facts

_LAYERS_UNKNOWN = "The layers are being looked up, a few seconds …"


class PresetPane(Vertical):
    """Shows one preset at a time. The style sheet says whether its layers stand beside it or in its place."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._name = ""
        self._facts: Facts | str | None = None
        self._drawn: tuple[Facts | str | None, int] | None = None

    def compose(self) -> ComposeResult:
        """Lay the pane out."""
        with Horizontal(id="sides"):
            with VerticalScroll(id="right", can_focus=False):
                yield Static(id="description")
            with Vertical(id="layers"):
                yield Quiet(id="layers-heading")
                with VerticalScroll(id="layers-rows", can_focus=False):
                    yield Quiet(id="layers-table")
        yield Quiet(id="more")

    def on_mount(self) -> None:
        """Say how much is out of sight whenever that changes."""
        for pane in self.query(VerticalScroll):
            for what in ("scroll_y", "virtual_size", "size"):
                self.watch(pane, what, self._say_more, init=False)

    def show(self, name: str, described: Group, found: "Facts | str | None") -> None:
        """Show a preset; another one than before is shown from its first row."""
        self.query_one("#description", Static).update(described)
        self._facts = found
        if name != self._name:
            self._name = name
            for pane in self.query(VerticalScroll):
                pane.scroll_home(animate=False)
        self.show_layers()

    def show_layers(self) -> None:
        """Draw the layer table, where it is in sight and not drawn yet."""
        layers, rows = self.query_one("#layers"), self.query_one("#layers-table", Quiet)
        width = self.query_one("#layers-heading").content_size.width
        if not layers.display or not width or self._drawn == (self._facts, width):
            return
        self._drawn = (self._facts, width)
        title = self.query_one("#layers-heading", Quiet)
        if self._facts is None or isinstance(self._facts, str):
            title.tell(Text("layers", MUTED))
            rows.tell(Text(self._facts or _LAYERS_UNKNOWN, MUTED))
            return
        from tui.widgets import layer_table

        title.tell(layer_table.heading(self._facts, width))
        rows.tell(layer_table.table(self._facts, width))

    def page(self, direction: int) -> None:
        """Scroll what is in sight by a page: down with 1, up with -1."""
        for pane in self._panes():
            pane.scroll_relative(y=direction * max(1, pane.size.height - 1), animate=False)

    def _panes(self) -> list[VerticalScroll]:
        return [pane for pane in self.query(VerticalScroll) if pane.size.height]

    def _say_more(self) -> None:
        below = max((round(pane.max_scroll_y - pane.scroll_y) for pane in self._panes()), default=0)
        above = max((round(pane.scroll_y) for pane in self._panes()), default=0)
        said = Text(no_wrap=True)
        if below > 0:
            said = Text.assemble(("pgdn", TRAIN), (f" {fmt.plural(below, 'more row')}", MUTED))
        if above > 0:
            said = Text.assemble(said, "  " if said else "", ("pgup", TRAIN), (" back up", MUTED))
        self.query_one("#more", Quiet).tell(said)
