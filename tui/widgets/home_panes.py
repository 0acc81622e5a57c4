"""Panes of Home: presets with their filter, description and layer table; the queue, GPUs, recent runs."""

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
from tui.data.environment import GpuReadings, Queued
from tui.data.network_facts import NetworkFacts
from tui.text import preset_text
from tui.text.device_text import gpus_now, title_of_gpus
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TextField
from tui.widgets.lists import PresetList, RunList

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.data.summary import Summary


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
        """Hide the rows that are empty at the start."""
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
        self.query_one("#matches", ChangedStatic).set_text(matches(num_found, len(self._listed)))

    def on_preset_list_marked(self) -> None:
        """Say how many are marked, and what Enter does with them."""
        row, num_marked = self.query_one("#marks", ChangedStatic), len(self.query_one(PresetList).marked)
        row.display = num_marked > 0
        row.set_text(marks(num_marked))


_LAYERS_UNKNOWN = "The layers are being looked up, a few seconds …"


class PresetPane(Vertical):
    """Description of one preset. By the style sheet its layers are shown beside it or in its place."""

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
            for what in ("scroll_y", "virtual_size"):
                self.watch(pane, what, self._say_more_once_laid_out, init=False)

    def on_resize(self) -> None:
        """Say how much is out of sight of the new height."""
        self._say_more_once_laid_out()

    def _say_more_once_laid_out(self) -> None:
        # Textual reports a new virtual size while the pane still has the height of before.
        self.call_after_refresh(self._say_more)

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
        """Draw the layer table, if it is in view and not drawn yet."""
        layers, rows = self.query_one("#layers"), self.query_one("#layers-table", ChangedStatic)
        width = self.query_one("#layers-heading").content_size.width
        if not layers.display or not width or self._drawn == (self._facts, width):
            return
        self._drawn = (self._facts, width)
        title = self.query_one("#layers-heading", ChangedStatic)
        if self._facts is None or isinstance(self._facts, str):
            title.set_text(Text("layers", MUTED))
            rows.set_text(Text(self._facts or _LAYERS_UNKNOWN, MUTED))
            return
        title.set_text(heading(self._facts, width))
        rows.set_text(table(self._facts, width))

    def page(self, direction: int) -> None:
        """Scroll what is in sight by a page: down with 1, up with -1."""
        for pane in self._panes():
            pane.scroll_relative(y=direction * max(1, pane.size.height - 1), animate=False)

    def _panes(self) -> list[VerticalScroll]:
        return [pane for pane in self.query(VerticalScroll) if pane.size.height]

    def _say_more(self) -> None:
        below = max((round(pane.max_scroll_y - pane.scroll_y) for pane in self._panes()), default=0)
        above = max((round(pane.scroll_y) for pane in self._panes()), default=0)
        text = Text(no_wrap=True)
        if below > 0:
            text = Text.assemble(("pgdn", TRAIN), (f" {fmt.plural(below, 'more row')}", MUTED))
        if above > 0:
            text = Text.assemble(text, "  " if text else "", ("pgup", TRAIN), (" back up", MUTED))
        self.query_one("#more", ChangedStatic).set_text(text)


def size_of(found: "NetworkFacts | str | None") -> Text:
    """Return a network's size; or why it is not known; or that it is being counted."""
    if found is None:
        return Text("being counted in the background, a few seconds …", MUTED)
    if isinstance(found, str):
        return Text(found, TONES["bad"])
    return preset_text.size(found.num_parameters, found.num_trainable, found.flops_per_image)


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


class QueueRow(ChangedStatic):
    """The queue in a row; takes none where it is empty."""

    def on_mount(self) -> None:
        """Take no row before the queue is read."""
        self.display = False

    def show(self, queued: Queued) -> None:
        """Draw how many presets wait, and the next one."""
        text = queue(queued)
        self.display = bool(text)
        self.set_text(text)


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


_GPU_ROWS = 4
"""More GPUs than this stand side by side."""


class GpuPane(ChangedStatic):
    """The GPUs of this machine now, a row each while they are few."""

    def on_mount(self) -> None:
        """Name the pane."""
        self.border_title = "GPUs now"

    def show(self, now: GpuReadings | None, torch_gpus: int | None) -> None:
        """Draw a reading; None before the first. `torch_gpus` is how many of them torch sees, if that is known."""
        if now is None:
            self.set_text(Text("reading the GPUs …", MUTED))
            return
        width = max(40, self.content_size.width)
        title = title_of_gpus(now.gpus, _GPU_ROWS)
        if self.border_title != title:  # setting it paints the pane
            self.border_title = title
        self.set_text(gpus_now(now.gpus, now.missing, now.num_cores, width, _GPU_ROWS, torch_gpus, now.host_free_bytes))


class RecentRuns(Vertical):
    """The newest runs, or why there are none."""

    def compose(self) -> ComposeResult:
        """Lay the pane out."""
        yield ChangedStatic(id="no-runs")
        yield RunList(id="runs", compact=True)

    def on_mount(self) -> None:
        """Name the pane."""
        self.border_title = "recent runs"

    def show(self, runs: "Sequence[Summary]", num_older: int, now: float, empty: Text, *, is_listed: bool) -> None:
        """List `runs`, and how many are older than these; `empty` if there is none.

        Args:
            runs: newest first.
            num_older: number of the runs that are not among them.
            now: Unix seconds.
            empty: in place of the list.
            is_listed: the folder was read: rows that its runs do not need are the presets'.
        """
        self.set_class(is_listed, "-listed")
        listing, instead = self.query_one(RunList), self.query_one("#no-runs", ChangedStatic)
        listing.display, instead.display = bool(runs), not runs
        if runs:
            listing.show(runs, now)
        else:
            instead.set_text(empty)
        title = f"recent runs (and {num_older} older)" if num_older > 0 else "recent runs"
        if self.border_title != title:  # setting it paints the pane
            self.border_title = title


def no_runs(num_runs: int | None, has_cifar: bool | None, has_gpu: bool | None, problem: str = "") -> Text:
    """Return the text in place of an empty list of runs.

    Args:
        num_runs: number of runs; None before they were listed.
        has_cifar: CIFAR-100 was found; None before it was searched for.
        has_gpu: there is a GPU; None before that was read.
        problem: the reason, if they cannot be listed.
    """
    if problem:
        return Text(problem, TONES["bad"])
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
