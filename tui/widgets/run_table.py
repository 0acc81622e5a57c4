"""Table of runs that draws only the rows in view, its heading, and the text if it is empty."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from presets.problems import printable
from tui import format as fmt
from tui.data.run_list import RunsListed
from tui.data.summary import Damaged, SortKey, Summary
from tui.text import run_text
from tui.text.layout import left_and_right
from tui.theme import MUTED, TEXT, TONES, VAL
from tui.widgets.basic import ChangedStatic

Row: TypeAlias = Summary | Damaged


@dataclass(frozen=True)
class Mark:
    """Number and colour of a marked run and its curve."""

    sign: str
    color: str


@dataclass(frozen=True)
class Order:
    """Sort key and direction of the rows."""

    key: SortKey = "started"
    rising: bool = False


@dataclass(frozen=True)
class _Column:
    heading: str
    width: int
    value: Callable[[Summary, float], str]
    color: Callable[[Summary], str]
    key: SortKey | None = None
    is_right: bool = True
    dropped: int = 0
    """If the columns do not fit, those with the highest number are dropped first; 0 stays."""


def _plain(_run: Summary) -> str:
    return TEXT


def _muted(_run: Summary) -> str:
    return MUTED


def _of_val(run: Summary) -> str:
    return MUTED if run.best_val_top1 is None else VAL


_GAP = 2
_MARK_WIDTH = 2
_LEAST_NAME, _MOST_NAME = 14, 40
_PRESET = _Column("preset", 17, lambda run, _: run.preset_name, _muted, is_right=False, dropped=6)
_COLUMNS = (
    _Column("state", 10, lambda run, _: run.status, lambda run: TONES[run_text.tone(run.status)], is_right=False),
    _Column("epoch", 7, lambda run, _: f"{run.epoch}/{run.epochs}", _muted, dropped=2),
    _Column("best val", 9, lambda run, _: fmt.percent(run.best_val_top1), _of_val, "val"),
    _Column("test", 7, lambda run, _: run.no_test or fmt.percent(run.test_top1), _plain, "test", dropped=1),
    _Column("duration", 11, lambda run, _: fmt.duration(run.duration_s), _plain, "duration", dropped=5),
    _Column("size", 8, lambda run, _: fmt.memory(run.num_bytes), _plain, "size", dropped=4),
    _Column("started", 10, lambda run, now: fmt.ago(max(0.0, now - run.created)), _muted, "started", dropped=3),
    _Column("host", 12, lambda run, _: printable(run.host), _muted, is_right=False, dropped=7),
)


@dataclass(frozen=True)
class _Layout:
    name_width: int
    columns: tuple[_Column, ...]

    def key_at(self, x: int) -> SortKey | None:
        """Return what the column at `x` is sorted by, if it can be."""
        left = _MARK_WIDTH + self.name_width
        for column in self.columns:
            left += _GAP + column.width
            if x < left:
                return column.key
        return None


def _layout(width: int, order: Order, longest: int) -> _Layout:
    """Return the columns for which `width` has room; the one sorted by is always among them."""
    columns = [_PRESET, *_COLUMNS]
    for column in sorted(columns, key=lambda column: -column.dropped):
        if _MARK_WIDTH + _LEAST_NAME + _width_of(columns) <= width:
            break
        if column.dropped and column.key != order.key:
            columns.remove(column)
    room = width - _MARK_WIDTH - _width_of(columns)
    return _Layout(max(_LEAST_NAME, min(_MOST_NAME, room, longest)), tuple(columns))


def _width_of(columns: Sequence[_Column]) -> int:
    return sum(_GAP + column.width for column in columns)


class SortChosen(Message):
    """A heading was clicked."""

    def __init__(self, key: SortKey) -> None:
        self.key = key
        super().__init__()


class RunHeading(ChangedStatic):
    """The columns' names; the one sorted by carries an arrow."""

    layout_now: _Layout | None = None

    def show(self, layout: _Layout, order: Order, *, plain: bool) -> None:
        """Draw the names over the columns of `layout`."""
        self.layout_now = layout
        arrow = ("^" if order.rising else "v") if plain else ("▴" if order.rising else "▾")
        line = Text(" " * _MARK_WIDTH, MUTED, no_wrap=True)
        line.append(set_cell_size("run", layout.name_width))
        for column in layout.columns:
            is_chosen = column.key is not None and column.key == order.key
            name = column.heading + (arrow if is_chosen else "")
            name = name.rjust(column.width) if column.is_right else name.ljust(column.width)
            line.append(" " * _GAP).append(name, TEXT if is_chosen else MUTED)
        self.set_text(line)

    def on_click(self, event: Click) -> None:
        """Sort by the column under the mouse."""
        where = event.get_content_offset(self)
        key = self.layout_now.key_at(where.x) if self.layout_now is not None and where is not None else None
        if key is not None:
            self.post_message(SortChosen(key))


class RunTable(ScrollView, can_focus=True):
    """The rows. The cursor stays on its run when rows come, go and change places."""

    DEFAULT_CSS = """
    RunTable { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    RunTable > .run-table--cursor { background: $block-cursor-blurred-background; }
    RunTable:focus > .run-table--cursor { background: $block-cursor-background; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"run-table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="runs.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="runs.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="runs.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="runs.page_down"),
        Binding("home,g", "move(-1000000000)", "First", show=False, id="runs.first"),
        Binding("end,G", "move(1000000000)", "Last", show=False, id="runs.last"),
    ]

    class Moved(Message):
        """The cursor is on another run."""

    class Opened(Message):
        """A run was clicked twice."""

    def __init__(self) -> None:
        super().__init__(id="run-table")
        self.rows: Sequence[Row] = ()
        self._now, self._order = 0.0, Order()
        self._marks: dict[str, Mark] = {}
        self._cursor = 0
        self._painted: dict[int, Text] = {}
        self.fitting = _layout(80, self._order, _LEAST_NAME)
        """The columns for which there is room now."""

    @property
    def chosen(self) -> Row | None:
        """The run under the cursor."""
        return self.rows[self._cursor] if self.rows else None

    def _fit(self) -> None:
        longest = max((cell_len(fmt.short_id(row.id)) for row in self.rows), default=_LEAST_NAME)
        self.fitting = _layout(max(30, self.size.width - 1), self._order, longest)

    def show(self, rows: Sequence[Row], now: float, order: Order, marks: Mapping[str, Mark]) -> None:
        """List `rows`; only those in view that changed are painted."""
        before = self.chosen
        num_before = len(self.rows)
        self.rows, self._now, self._order, self._marks = rows, now, order, dict(marks)
        self._fit()
        ids = [row.id for row in rows]
        if before is not None and before.id in ids:
            self._cursor = ids.index(before.id)
        self._cursor = max(0, min(self._cursor, len(rows) - 1))
        if len(rows) != num_before:
            self.virtual_size = Size(0, len(rows))
            self.refresh()
        else:
            first = self.scroll_offset.y
            for y in range(first, min(len(rows), first + self.size.height)):
                if self._line(rows[y]) != self._painted.get(y):
                    self.refresh_line(y)
        if (self.chosen is None) != (before is None) or (before and self.chosen and before.id != self.chosen.id):
            self.post_message(self.Moved())
        self._keep_in_view()

    def on_resize(self) -> None:
        """Fit the columns anew."""
        self._fit()
        self.refresh()
        self._keep_in_view()

    def render_line(self, y: int) -> Strip:
        """Return the row at `y` of what is in view."""
        index, width = y + self.scroll_offset.y, self.size.width
        if index >= len(self.rows):
            return Strip.blank(width, self.rich_style)
        line = self._line(self.rows[index])
        self._painted[index] = line
        strip = Strip(line.render(self.app.console)).adjust_cell_length(width)
        cursor = self.get_component_rich_style("run-table--cursor") if index == self._cursor else self.rich_style
        return strip.apply_style(cursor)

    def _line(self, row: Row) -> Text:
        layout = self.fitting
        mark = self._marks.get(row.id)
        line = Text.assemble((f"{mark.sign if mark else '':<{_MARK_WIDTH}}", f"bold {mark.color}" if mark else MUTED))
        is_damaged = isinstance(row, Damaged)
        line.append(
            fmt.column(printable(fmt.short_id(row.id)), layout.name_width, keep_end=True),
            TONES["bad"] if is_damaged else TEXT,
        )
        if isinstance(row, Damaged):
            before = " " * (_GAP + _PRESET.width) if _PRESET in layout.columns else ""
            return line.append(f"{before}  {row.state:<10}  {printable(row.reason)}", TONES["bad"])
        for column in layout.columns:
            text = fmt.column(column.value(row, self._now), column.width)
            line.append(" " * _GAP).append(
                text.rstrip().rjust(column.width) if column.is_right else text, column.color(row)
            )
        return line.append(run_text.newer(row.not_understood), TONES["warn"])

    def action_move(self, rows: int) -> None:
        """Move the cursor by so many rows, as far as there are any."""
        self._go_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by a page."""
        self._go_to(self._cursor + pages * max(1, self.size.height - 1))

    def on_click(self, event: Click) -> None:
        """Go to the run under the mouse; clicked twice, it opens."""
        if (index := event.y + self.scroll_offset.y) < len(self.rows):
            self._go_to(index)
            if event.chain == 2:
                self.post_message(self.Opened())

    def _go_to(self, index: int) -> None:
        index = max(0, min(index, len(self.rows) - 1))
        if index == self._cursor or not self.rows:
            return
        before, self._cursor = self._cursor, index
        self.refresh_line(before)
        self.refresh_line(index)
        self._keep_in_view()
        self.post_message(self.Moved())

    def _keep_in_view(self) -> None:
        self.scroll_to_region(Region(0, self._cursor, 1, 1), animate=False, force=True)


_ORDERS: dict[SortKey, tuple[str, str, str]] = {
    "started": ("start", "newest first", "oldest first"),
    "val": ("best val", "highest first", "lowest first"),
    "test": ("test", "highest first", "lowest first"),
    "duration": ("duration", "longest first", "shortest first"),
    "size": ("size on disk", "largest first", "smallest first"),
}


def heading(listed: RunsListed, order: Order, num_rows: int, num_marked: int, width: int) -> Text:
    """Return how many runs are shown, in what order, how many are marked, and what all take on disk."""
    name, falling, rising = _ORDERS[order.key]
    left = Text.assemble(
        ("Runs", f"bold {TEXT}"), (f"   {_shown(listed, num_rows)}", TEXT),
        (f"   by {name}, {rising if order.rising else falling}", MUTED),
    )  # fmt: skip
    if num_marked:
        left.append(f"   {num_marked} marked", VAL)
    num_bytes = sum(run.num_bytes or 0 for run in listed.runs) + sum(run.num_bytes for run in listed.damaged)
    return left_and_right(left, Text(f"{fmt.memory(num_bytes)} on disk" if num_bytes else "", MUTED), width)


def _shown(listed: RunsListed, num_rows: int) -> str:
    num_all = fmt.count(listed.num_all)
    if listed.num_unread:
        return (
            f"reading … {fmt.count(listed.num_all - listed.num_unread)} of {num_all}" if listed.num_all else "reading …"
        )
    return num_all if num_rows == listed.num_all else f"{fmt.count(num_rows)} of {num_all}"


def nothing(listed: RunsListed, runs_dir: Path) -> Text:
    """Return why there is no row, and what to do."""
    if listed.num_unread:
        return Text("reading the runs …", MUTED)
    if listed.problem:
        return Text(listed.problem, TONES["bad"])
    if listed.num_all:
        return Text("No run has all these words. Esc takes the filter away.", MUTED)
    return Text(
        f"No runs in {runs_dir} yet.\n\nEsc goes back to Home, where Enter starts the highlighted preset; "
        "demo needs no data.\nRuns kept elsewhere are shown with: cifartui --runs-dir DIR",
        MUTED,
    )
