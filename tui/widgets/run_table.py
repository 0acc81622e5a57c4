"""Table of runs that draws only the rows in view, its heading, and the text if it is empty."""

from collections.abc import Mapping, Sequence
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

from engine.runs.run_dir import stem_of
from presets.problems import printable
from tui import format as fmt
from tui.data.run_list import RunsListed
from tui.data.seed_group import Listed, SeedGroup
from tui.data.summary import Damaged, SortKey, Summary
from tui.text import run_text, seed_text
from tui.text.layout import left_and_right
from tui.text.run_name import named, run_name, shared_words
from tui.theme import MUTED, TEXT, TONES, VAL
from tui.widgets.basic import ChangedStatic
from tui.widgets.run_columns import GAP, LEAST_NAME, MARK_WIDTH, PRESET, Layout, Order, layout

Row: TypeAlias = Listed | Damaged
_HINT = "Enter opens, space marks, Y gives the path, O reverses; ? lists all keys."
_FOLDED, _OPEN = "▸ ", "▾ "


@dataclass(frozen=True)
class Mark:
    """Number and colour of a marked run and its curve."""

    sign: str
    color: str


class SortChosen(Message):
    """A heading was clicked."""

    def __init__(self, key: SortKey) -> None:
        self.key = key
        super().__init__()


class RunHeading(ChangedStatic):
    """The columns' names; the one sorted by carries an arrow."""

    layout_now: Layout | None = None

    def show(self, fitting: Layout, order: Order, *, plain: bool) -> None:
        """Draw the names over the columns of `fitting`."""
        self.layout_now = fitting
        arrow = ("^" if order.rising else "v") if plain else ("▴" if order.rising else "▾")
        line = Text(" " * MARK_WIDTH, MUTED, no_wrap=True)
        line.append(set_cell_size("run", fitting.name_width))
        for column in fitting.columns:
            is_chosen = column.key is not None and column.key == order.key
            name = column.heading + (arrow if is_chosen else "")
            name = name.rjust(column.width) if column.is_right else name.ljust(column.width)
            line.append(" " * GAP).append(name, TEXT if is_chosen else MUTED)
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
        """The cursor is on another run: by a key or a click, or because its run is gone."""

        def __init__(self, *, by_user: bool = True) -> None:
            self.by_user = by_user
            super().__init__()

    class Opened(Message):
        """A run was clicked twice."""

    def __init__(self) -> None:
        super().__init__(id="run-table")
        self._opened: frozenset[str] = frozenset()
        self._inside: dict[str, SeedGroup] = {}
        self._shared: dict[str, frozenset[str]] = {}
        self.rows: Sequence[Row] = ()
        self._now, self._order = 0.0, Order()
        self._marks: dict[str, Mark] = {}
        self._cursor = 0
        self._painted: dict[int, Text] = {}
        self.fitting = layout(80, self._order, LEAST_NAME)
        """The columns for which there is room now."""

    @property
    def chosen(self) -> Row | None:
        """The run under the cursor."""
        return self.rows[self._cursor] if self.rows else None

    def _fit(self) -> None:
        whole = [row for row in self.rows if not isinstance(row, Damaged)]
        self._shared = shared_words((row.preset_name, row.words) for row in whole)
        longest = max((cell_len(self._row_name(row)) for row in self.rows), default=LEAST_NAME)
        needed = max((_least(row) for row in whole if row.words and row.id not in self._inside), default=0)
        has_groups = any(isinstance(row, SeedGroup) for row in whole)
        width = max(30, self.size.width - 1)
        has_hosts = any(_is_elsewhere(row) for row in whole)
        self.fitting = layout(width, self._order, longest, needed, has_groups=has_groups, has_hosts=has_hosts)

    def _row_name(self, row: Row, width: int | None = None) -> str:
        """Return the name of a row, in at most `width` columns."""
        if isinstance(row, Damaged):
            whole = printable(fmt.short_id(row.id))
            return whole if width is None else fmt.cut(whole, width, keep_end=True)
        shared = self._shared.get(row.preset_name, frozenset())
        if isinstance(row, SeedGroup):
            stem, room = stem_of(row.preset_name), None if width is None else width - len(_OPEN)
            return (_OPEN if row.id in self._opened else _FOLDED) + named(stem, stem, row.words, room, shared)
        if (group := self._inside.get(row.id)) is not None:
            own = [word for word in row.words if word not in group.words] if group.is_search else [f"seed {row.seed}"]
            text = f"{' ' * len(_OPEN)}{' '.join(own)}  {printable(fmt.short_id(row.id))}"
            return text if width is None else fmt.cut(text, width)
        return run_name(row.id, row.preset_name, row.words, width, shared)

    def show(
        self,
        rows: Sequence[Row],
        now: float,
        order: Order,
        marks: Mapping[str, Mark],
        opened: frozenset[str] = frozenset(),
    ) -> None:
        """List `rows`; only those in view that changed are painted.

        Args:
            rows: runs and groups, the members of an open group behind it.
            now: Unix seconds.
            order: by which they are sorted.
            marks: of marked rows, by id.
            opened: ids of the groups that are open.
        """
        before = self.chosen
        num_before = len(self.rows)
        self.rows, self._now, self._order, self._marks = rows, now, order, dict(marks)
        groups = [row for row in rows if isinstance(row, SeedGroup) and row.id in opened]
        self._opened, self._inside = opened, {run.id: group for group in groups for run in group.members}
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
            self.post_message(self.Moved(by_user=False))
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
        fitting = self.fitting
        mark = self._marks.get(row.id)
        line = Text.assemble((f"{mark.sign if mark else '':<{MARK_WIDTH}}", f"bold {mark.color}" if mark else MUTED))
        is_damaged = isinstance(row, Damaged)
        line.append(
            fmt.column(self._row_name(row, fitting.name_width), fitting.name_width),
            TONES["bad"] if is_damaged else TEXT,
        )
        if isinstance(row, Damaged):
            before = " " * (GAP + PRESET.width) if PRESET in fitting.columns else ""
            return line.append(f"{before}  {row.state:<10}  {printable(row.reason)}", TONES["bad"])
        for column in fitting.columns:
            text = fmt.column(column.value(row, self._now), column.width)
            line.append(" " * GAP).append(
                text.rstrip().rjust(column.width) if column.is_right else text, column.color(row)
            )
        return line if isinstance(row, SeedGroup) else line.append(run_text.newer(row.not_understood), TONES["warn"])

    def go_to_row(self, row_id: str) -> None:
        """Move the cursor to a row, if it is there."""
        self._go_to(next((index for index, row in enumerate(self.rows) if row.id == row_id), self._cursor))

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


def _is_elsewhere(row: Listed) -> bool:
    """Return true for a run, or a group with one, on another host."""
    return row.is_elsewhere if isinstance(row, Summary) else any(run.is_elsewhere for run in row.members)


def _least(row: Listed) -> int:
    """Return the columns of a row's name without its digits, below which the name is cut."""
    gap = len(_OPEN) if isinstance(row, SeedGroup) else 0
    return gap + cell_len(" ".join((stem_of(row.preset_name), *row.words)))


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


def hint(chosen: Row | None) -> Text:
    """Return what is said of the row under the cursor: the spread of a group, what damaged a run, or the keys."""
    if isinstance(chosen, SeedGroup) and chosen.is_search:
        return Text(seed_text.search(len(chosen.members), chosen.shown.words, chosen.best_val_top1), MUTED)
    if isinstance(chosen, SeedGroup):
        return Text(seed_text.group([run.seed for run in chosen.members], chosen.val, chosen.test), MUTED)
    if isinstance(chosen, Damaged) and chosen.state == "no line":
        return Text(printable(chosen.problem, 500), TONES["bad"])
    if isinstance(chosen, Damaged):
        return Text(f"{printable(chosen.problem)} D deletes it.", TONES["bad"])
    return Text(_HINT if chosen is not None else "Esc goes back to Home.", MUTED)
