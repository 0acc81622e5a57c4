"""Panes of Home that show presets: list with filter, description, layer table, hints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Static

from engine.journal.events import LayerRow
from presets.problems import printable
from tui import format as fmt
from tui.data.environment import Queued
from tui.data.network_facts import NetworkFacts
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TextField
from tui.widgets.lists import PresetList

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.data.network_facts import NetworkFacts


class PresetChooser(Vertical):
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
            yield ChangedStatic(id="matches")
        yield PresetList(id="presets", sign=self._sign)
        yield ChangedStatic(id="marks")

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
        self.query_one("#matches", ChangedStatic).tell(matches(num_found, len(self._listed)))

    def on_preset_list_marked(self) -> None:
        """Say how many are marked, and what Enter does with them."""
        row, num_marked = self.query_one("#marks", ChangedStatic), len(self.query_one(PresetList).marked)
        row.display = num_marked > 0
        row.tell(marks(num_marked))


_LAYERS_UNKNOWN = "The layers are being looked up, a few seconds …"


class PresetPane(Vertical):
    """Shows one preset at a time. The style sheet says whether its layers stand beside it or in its place."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._name = ""
        self._facts: NetworkFacts | str | None = None
        self._drawn: tuple[NetworkFacts | str | None, int] | None = None

    def compose(self) -> ComposeResult:
        """Lay the pane out."""
        with Horizontal(id="sides"):
            with VerticalScroll(id="right", can_focus=False):
                yield Static(id="description")
            with Vertical(id="layers"):
                yield ChangedStatic(id="layers-heading")
                with VerticalScroll(id="layers-rows", can_focus=False):
                    yield ChangedStatic(id="layers-table")
        yield ChangedStatic(id="more")

    def on_mount(self) -> None:
        """Say how much is out of sight whenever that changes."""
        for pane in self.query(VerticalScroll):
            for what in ("scroll_y", "virtual_size", "size"):
                self.watch(pane, what, self._say_more, init=False)

    def show(self, name: str, described: Group, found: "NetworkFacts | str | None") -> None:
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
        layers, rows = self.query_one("#layers"), self.query_one("#layers-table", ChangedStatic)
        width = self.query_one("#layers-heading").content_size.width
        if not layers.display or not width or self._drawn == (self._facts, width):
            return
        self._drawn = (self._facts, width)
        title = self.query_one("#layers-heading", ChangedStatic)
        if self._facts is None or isinstance(self._facts, str):
            title.tell(Text("layers", MUTED))
            rows.tell(Text(self._facts or _LAYERS_UNKNOWN, MUTED))
            return
        pass

        title.tell(heading(self._facts, width))
        rows.tell(table(self._facts, width))

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
        self.query_one("#more", ChangedStatic).tell(said)


_BESIDE_KIND = 40
"""Columns of all other columns, and of a scroll bar."""


def heading(found: NetworkFacts, width: int) -> Text:
    """Return what the table adds up to, and the names of its columns."""
    kind = max(8, width - _BESIDE_KIND)
    total = f"{len(found.layers)} layers, {fmt.count(found.num_parameters)} parameters"
    columns = f"{'no.':>3} {'layer':<{kind}}{'k':>3}{'size':>9}{'channels':>11}{'parameters':>12}"
    return Text.assemble((total, TEXT), "\n", (columns, MUTED), no_wrap=True)


def table(found: NetworkFacts, width: int) -> Text:
    """Return a row for every layer."""
    kind = max(8, width - _BESIDE_KIND)
    rows = [_row(layer, kind) for layer in found.layer_table()]
    return Text("\n", no_wrap=True).join(rows)


def _row(layer: LayerRow, kind_width: int) -> Text:
    return Text.assemble(
        (f"{layer.number:>3} ", MUTED),
        (fmt.column(layer.kind, kind_width), TEXT if layer.num_parameters else MUTED),
        (f"{layer.kernel or '':>3}{fmt.change(layer.in_size, layer.out_size):>9}", MUTED),
        (f"{fmt.change(layer.in_channels, layer.out_channels):>11}", MUTED),
        (f"{fmt.count(layer.num_parameters) if layer.num_parameters else '':>12}", TEXT),
        no_wrap=True,
    )


def matches(num_found: int, num_all: int) -> Text:
    """Return how many presets the filter found."""
    return Text(f"{num_found} of {num_all}", MUTED if num_found else TONES["warn"])


def marks(number: int) -> Text:
    """Return how many presets are marked, and what to do with them."""
    return Text.assemble((f"{number} marked: ", TRAIN), ("Enter queues", MUTED), no_wrap=True)


def queue(queued: Queued) -> Text:
    """Return the queue in a row; nothing where it is empty."""
    if queued.problem:
        return Text.assemble(("queue: ", MUTED), (queued.problem, TONES["bad"]))
    if not queued.names:
        return Text("")
    idle = "" if queued.is_worked_on else ", but nothing works on it"
    return Text.assemble(
        ("queue: ", MUTED), (f"{len(queued.names)} waiting{idle}", TONES["calm" if queued.is_worked_on else "warn"]),
        (", next ", MUTED), (printable(queued.names[0]), TEXT), ("   Q", TRAIN), (" shows it", MUTED),
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip


def no_runs(num_runs: int | None, has_cifar: bool | None, has_gpu: bool | None) -> Text:
    """Return what is said where no run is listed.

    Args:
        num_runs: how many there are; None before they were looked for.
        has_cifar: whether CIFAR-100 was found; None before it was looked for.
        has_gpu: whether there is a GPU; None before that was read.
    """
    if num_runs is None:
        return Text("looking for runs …", MUTED)
    if num_runs:
        return Text("No run can be read: cifartui runs says why.", TONES["warn"])
    lacking = " and ".join(
        [*(["no CIFAR-100 found"] if has_cifar is False else []), *(["no GPU"] if has_gpu is False else [])]
    )
    if not lacking:
        return Text("No runs yet. Press Enter to start the highlighted preset; demo needs no data.", MUTED)
    return Text.assemble(
        (f"No runs yet, {lacking}. New here? Press ", MUTED), ("d", f"bold {TRAIN}"),
        (": demo trains at once, on images that it generates, in minutes even on a CPU.", MUTED),
    )  # fmt: skip
