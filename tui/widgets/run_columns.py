"""Columns of the table of runs: their values for a run or a group of runs, and which of them a width has room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from presets.problems import printable
from tui import format as fmt
from tui.data.seed_group import Listed, SeedGroup
from tui.data.summary import SortKey
from tui.text import run_text, seed_text
from tui.theme import MUTED, TEXT, TONES, VAL


@dataclass(frozen=True)
class Order:
    """Sort key and direction of the rows."""

    key: SortKey = "started"
    rising: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    heading: str
    width: int
    value: Callable[[Listed, float], str]
    color: Callable[[Listed], str]
    key: SortKey | None = None
    is_right: bool = True
    dropped: int = 0
    """If the columns do not fit, those with the highest number are dropped first; 0 stays."""


def _plain(_run: Listed) -> str:
    return TEXT


def _muted(_run: Listed) -> str:
    return MUTED


def _of_val(run: Listed) -> str:
    return MUTED if run.best_val_top1 is None else VAL


def _epochs(run: Listed) -> str:
    if isinstance(run, SeedGroup):
        num, num_counted = len(run.members), len(run.counted)
        if run.is_search:
            return fmt.plural(num, "run")
        return fmt.plural(num, "seed") if num == num_counted else f"{num_counted} of {num}"
    return f"{run.epoch}/{run.epochs}"


def _val(run: Listed) -> str:
    return seed_text.cell(run.val) if isinstance(run, SeedGroup) else fmt.percent(run.best_val_top1)


def _test(run: Listed) -> str:
    shown = seed_text.cell(run.test) if isinstance(run, SeedGroup) else fmt.percent(run.test_top1)
    return run.no_test or shown


GAP = 2
MARK_WIDTH = 2
LEAST_NAME, _MOST_NAME = 14, 40
_SPREAD_WIDTH = 9
"""Of "61.2 ±0.4"."""
PRESET = Column("preset", 17, lambda run, _: run.preset_name, _muted, is_right=False, dropped=6)
_COLUMNS = (
    Column("state", 10, lambda run, _: run.status, lambda run: TONES[run_text.tone(run.status)], is_right=False),
    Column("epoch", 7, lambda run, _: _epochs(run), _muted, dropped=2),
    Column("best val", 9, lambda run, _: _val(run), _of_val, "val"),
    Column("test", 7, lambda run, _: _test(run), _plain, "test", dropped=1),
    Column("duration", 11, lambda run, _: fmt.duration(run.duration_s), _plain, "duration", dropped=5),
    Column("size", 8, lambda run, _: fmt.memory(run.num_bytes), _plain, "size", dropped=4),
    Column("started", 10, lambda run, now: fmt.ago(max(0.0, now - run.created)), _muted, "started", dropped=3),
    Column("host", 12, lambda run, _: printable(run.host), _muted, is_right=False, dropped=7),
)
_WITH_SPREADS = tuple(
    replace(column, width=_SPREAD_WIDTH) if column.key in {"val", "test"} else column for column in _COLUMNS
)


@dataclass(frozen=True)
class Layout:
    """The width of the first column, which holds the names, and the columns behind it."""

    name_width: int
    columns: tuple[Column, ...]

    def key_at(self, x: int) -> SortKey | None:
        """Return what the column at `x` is sorted by, if it can be."""
        left = MARK_WIDTH + self.name_width
        for column in self.columns:
            left += GAP + column.width
            if x < left:
                return column.key
        return None


def layout(
    width: int, order: Order, longest: int, needed: int = 0, *, has_groups: bool = False, has_hosts: bool = False
) -> Layout:
    """Return the columns for which `width` has room; the one sorted by is always among them.

    Args:
        width: of the table.
        order: of its rows.
        longest: columns that the longest name takes.
        needed: columns below which a name with settings is cut: the preset's own column goes before that.
        has_groups: some rows are groups, whose accuracies take more room.
        has_hosts: some rows are on other hosts, so that the column for the host stays.
    """
    columns = [PRESET, *(_WITH_SPREADS if has_groups else _COLUMNS)]
    if has_hosts:
        columns[-1] = replace(columns[-1], dropped=0)
    for column in sorted(columns, key=lambda column: -column.dropped):
        least = max(LEAST_NAME, min(_MOST_NAME, needed)) if PRESET in columns else LEAST_NAME
        if MARK_WIDTH + least + _width_of(columns) <= width:
            break
        if column.dropped and column.key != order.key:
            columns.remove(column)
    room = width - MARK_WIDTH - _width_of(columns)
    return Layout(max(LEAST_NAME, min(_MOST_NAME, room, longest)), tuple(columns))


def _width_of(columns: Sequence[Column]) -> int:
    return sum(GAP + column.width for column in columns)
