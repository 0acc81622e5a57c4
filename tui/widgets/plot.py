"""A plot that keeps still: plotext draws the axes once, the curves are drawn on a canvas inside them.

Only rows that changed are painted again. Knows charts as plain data; knows nothing of runs. plotext takes some
15 ms for a plot, which twice a second on two cores is felt by the training; the canvas takes one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.display import PlotStyle
from tui.theme import MUTED, TEXT
from tui.widgets.axes import Axis
from tui.widgets.raster import DOTS, Canvas
from tui.widgets.trace import Column

_LABEL_COLUMNS = 5
"""What the y axis and its labels take from the width."""
_Cell = tuple[str, str]
"""A character and its colour, "" for none."""


@dataclass(frozen=True)
class Line:
    """A series. `marker` is "braille" for a fine line, or a character put at every point."""

    xs: Sequence[float]
    ys: Sequence[float]
    color: str
    marker: str = "braille"


@dataclass(frozen=True)
class Band:
    """The range of a series in equal columns from end to end of the x axis, drawn from least to greatest."""

    columns: Sequence[Column | None]
    color: str


@dataclass(frozen=True)
class Reference:
    """A dotted level with its name."""

    y: float
    label: str
    color: str


@dataclass(frozen=True)
class Mark:
    """Something that happened at a place on the x axis, said at the upper edge."""

    x: float
    label: str
    color: str


@dataclass(frozen=True)
class Chart:
    """All that a plot shows. `empty` is said in place of a plot without points."""

    title: str
    x: Axis
    y: Axis
    x_unit: str
    lines: tuple[Line, ...]
    legend: tuple[tuple[str, str], ...] = ()
    """Text and colour, shown behind the title in one row."""
    reference: Reference | None = None
    empty: str = ""
    boundaries: tuple[float, ...] = ()
    """Places on the x axis where something new began: dotted from bottom to top."""
    bands: tuple[Band, ...] = ()
    """Beneath the lines."""
    marks: tuple[Mark, ...] = ()
    cursor: float | None = None
    """A place on the x axis that is being read: drawn from bottom to top."""


class Plot(Widget):
    """Draws the latest Chart given to `show`."""

    DEFAULT_CSS = "Plot { width: 1fr; height: 1fr; }"

    class Sized(Message):
        """The plot has another size: whoever makes its chart may make one that fits."""

    def __init__(self, *, grain: PlotStyle = "braille", id: str | None = None) -> None:
        """Make an empty plot, drawn as fine as `grain` says the terminal can."""
        super().__init__(id=id)
        self._grain: PlotStyle = grain
        self._frame: tuple[object, list[list[_Cell]]] = (None, [])
        """What axes were drawn last, for which axes and size."""
        self._cells: list[list[_Cell]] = []
        self._rows: list[Strip] = []
        self.chart: Chart | None = None

    @property
    def num_columns(self) -> int:
        """How many columns of dots fit: the resolution worth giving a series."""
        return max(8, DOTS[self._grain][0] * (self.size.width - _LABEL_COLUMNS))

    @property
    def max_ticks(self) -> int:
        """How many ticks the x axis can label without crowding."""
        return max(2, (self.size.width - _LABEL_COLUMNS) // 9)

    @property
    def num_rows(self) -> int:
        """How many rows of characters the canvas has: all but legend, axis and its labels."""
        return max(3, self.size.height - 3)

    @property
    def last_place(self) -> float:
        """Where the newest column of the bands lies: a share of the x axis."""
        columns = self.chart.bands[0].columns if self.chart is not None and self.chart.bands else ()
        return max((number / len(columns) for number, column in enumerate(columns) if column is not None), default=1.0)

    def show(self, chart: Chart) -> list[int]:
        """Draw `chart` and return the rows that changed, which are the rows that will be painted."""
        self.chart = chart
        before, self._cells = self._cells, self._draw(chart, self.size.width, self.size.height)
        changed = [y for y, row in enumerate(self._cells) if y >= len(before) or before[y] != row]
        kept = self._rows[: len(self._cells)]
        self._rows = kept + [Strip.blank(0)] * (len(self._cells) - len(kept))
        for y in changed:
            self._rows[y] = _strip(self._cells[y])
        if len(before) > len(self._cells):
            self.refresh()
        elif changed:
            self.refresh(*_regions(changed, self.size.width))
        return changed

    def on_resize(self, _event: Resize) -> None:
        """Draw again at the new size."""
        self._cells, self._rows = [], []
        if self.chart is not None:
            self.show(self.chart)
        self.post_message(self.Sized())

    def render_line(self, y: int) -> Strip:
        """Return a row as drawn before."""
        row = self._rows[y] if y < len(self._rows) else Strip.blank(self.size.width)
        return row.apply_style(self.rich_style)

    def _draw(self, chart: Chart, width: int, height: int) -> list[list[_Cell]]:
        if width < 12 or height < 4:
            return []
        head = _legend(chart, width)
        if not any(len(line.xs) for line in chart.lines) and not any(any(band.columns) for band in chart.bands):
            return [head, *_centered(chart.empty, width, height - 1)]
        key = (chart.x, chart.y, chart.x_unit, width, height)
        if key != self._frame[0]:
            self._frame = key, _draw_frame(chart, width, height - 1)
        frame = self._frame[1]
        left = next(column for column, cell in enumerate(frame[-2]) if cell[0] == "└") + 1
        canvas = Canvas(width - left, len(frame) - 2, self._grain)
        _draw_on(canvas, chart)
        rows = [row[:left] + canvas.row(number) for number, row in enumerate(frame[:-2])]
        return [head, *rows, *frame[-2:]]


def _draw_frame(chart: Chart, width: int, height: int) -> list[list[_Cell]]:
    """Return the rows of empty axes, top first; the last two are the x axis and its labels."""
    from plotext._figure import _figure_class  # takes 50 ms: only with the first plot

    figure: Any = _figure_class()
    figure._limit_size(False, False)  # COLUMNS may say otherwise
    figure.plotsize(width, height)
    figure.xaxes(True, False)
    figure.yaxes(True, False)
    x, y = chart.x, chart.y
    figure.xlim(x.lower, x.upper)
    figure.ylim(y.lower, y.upper)
    figure.xticks(x.ticks(), [""] * len(x.ticks()))
    figure.yticks(y.ticks(), [label.rjust(_LABEL_COLUMNS - 1) for label in y.labels()])
    figure.scatter([x.lower], [y.lower], marker=" ")
    figure.build()
    rows = [[(mark, MUTED if mark != " " else "") for mark in row] for row in reversed(figure.monitor.matrix.marker)]
    rows[-1] = _x_labels(chart, [mark for mark, _ in rows[-2]])
    return rows


def _x_labels(chart: Chart, axis: list[str]) -> list[_Cell]:
    """Return the labels below the ticks; the last, which names the unit, goes before any that it would touch.

    plotext does it the other way round, and so loses the unit.
    """
    row, width = [" "] * len(axis), len(axis)
    columns = [column for column, mark in enumerate(axis) if mark == "┬"]
    labels = chart.x.labels()
    labels[-1] += f" {chart.x_unit}"
    for column, label in reversed(list(zip(columns, labels, strict=False))):
        start = max(0, min(column - len(label) // 2, width - len(label)))
        if all(cell == " " for cell in row[max(0, start - 1) : start + len(label) + 1]):
            row[start : start + len(label)] = label
    return [(cell, MUTED if cell != " " else "") for cell in row]


def _draw_on(canvas: Canvas, chart: Chart) -> None:
    """Draw everything inside the axes: what comes later covers what came before."""
    x, y = chart.x, chart.y

    def across(value: float) -> int:
        return round((value - x.lower) / (x.upper - x.lower) * (canvas.num_across - 1))

    def down(value: float) -> int:
        return round((y.upper - value) / (y.upper - y.lower) * (canvas.num_down - 1))

    for band in chart.bands:
        for number, column in enumerate(band.columns):
            if column is not None:
                at = int((number + 0.5) / len(band.columns) * canvas.num_across)
                canvas.upright(at, down(column.low), down(column.high), band.color)
    for line in chart.lines:
        dots = [
            (across(a), down(b)) for a, b in zip(line.xs, line.ys, strict=True) if math.isfinite(a) and math.isfinite(b)
        ]
        if line.marker == "braille":
            canvas.curve(dots, line.color)
        else:
            for dot in dots:
                canvas.mark(*dot, line.marker, line.color)
    _draw_beneath(canvas, chart, across, down)


def _draw_beneath(canvas: Canvas, chart: Chart, across: Callable[[float], int], down: Callable[[float], int]) -> None:
    """Write cursor, marks, reference and boundaries where no curve is."""
    per_column, per_row = canvas.num_across // canvas.num_columns, canvas.num_down // canvas.num_rows
    x, y = chart.x, chart.y

    def upright(at: float, character: str, color: str) -> None:
        for row in range(canvas.num_rows):
            canvas.under(across(at) // per_column, row, character, color)

    if chart.cursor is not None and x.lower <= chart.cursor <= x.upper:
        upright(chart.cursor, "│", TEXT)
    for mark in chart.marks:
        if x.lower <= mark.x <= x.upper:
            column = across(mark.x) // per_column
            start = min(column, canvas.num_columns - len(mark.label))
            if canvas.is_free(start, 0, len(mark.label)):
                canvas.under(start, 0, mark.label, mark.color)
            else:  # a part of it would say something wrong
                canvas.under(column, 0, mark.label[:1], mark.color)
    if chart.reference is not None and y.lower <= chart.reference.y <= y.upper:
        level, label = down(chart.reference.y) // per_row, f" {chart.reference.label} "
        starts = range(canvas.num_columns - len(label), -1, -1)
        free = next((start for start in starts if canvas.is_free(start, level, len(label))), None)
        if free is not None:  # as far right as it is not covered: curves come from the left
            canvas.under(free, level, label, chart.reference.color)
        canvas.under(0, level, "┄" * canvas.num_columns, chart.reference.color)
    for at in chart.boundaries:
        if x.lower < at < x.upper:
            upright(at, "┊", MUTED)


def _regions(rows: list[int], width: int) -> list[Region]:
    """Return one region for every unbroken group of rows."""
    grouped = groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0])
    groups = [[row for _, row in group] for _, group in grouped]
    return [Region(0, group[0], width, len(group)) for group in groups]


def _legend(chart: Chart, width: int) -> list[_Cell]:
    cells: list[_Cell] = [(character, f"bold {TEXT}") for character in chart.title]
    gap = 3 if len(cells) + sum(3 + len(text) for text, _ in chart.legend) <= width else 2
    for text, color in chart.legend:
        if len(cells) + gap + len(text) <= width:
            cells += [(" ", "")] * gap + [(character, color) for character in text]
    return cells + [(" ", "")] * (width - len(cells))


def _centered(text: str, width: int, height: int) -> list[list[_Cell]]:
    rows: list[list[_Cell]] = [[(" ", "")] * width for _ in range(height)]
    said = text[:width]
    left = (width - len(said)) // 2
    rows[height // 2][left : left + len(said)] = [(character, MUTED) for character in said]
    return rows


def _strip(cells: list[_Cell]) -> Strip:
    grouped = groupby(cells, key=lambda cell: cell[1])
    return Strip([Segment("".join([mark for mark, _ in group]), _style(color)) for color, group in grouped], len(cells))


@lru_cache(maxsize=64)
def _style(color: str) -> Style:
    return Style.parse(color) if color else Style.null()
