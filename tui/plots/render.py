"""Renderer of charts: rows of styled cells, for the screen and for the printed page.

plotext draws frame and ticks, rarely: limits of axes move in steps. Everything inside them is drawn on a `Canvas`,
because plotext takes some 15 ms for a plot, which twice a second on two cores is felt by the training.
"""

import math
import threading
from functools import lru_cache
from itertools import groupby
from typing import TypeAlias

from rich.text import Text

from tui.display import PlotStyle
from tui.plots.axes import Axis
from tui.plots.canvas import DOTS, Canvas
from tui.plots.chart import Chart, Resolution
from tui.theme import MUTED, TEXT

Cell: TypeAlias = tuple[str, str]
"""A character and its style in Rich's words, "" for none."""
_AXIS_COLUMNS = 5
"""Columns of the y axis and its labels."""
_AXIS_ROWS = 3
"""Rows of the title, of the x axis and of its labels."""
_TICK_COLUMNS = 9
"""Columns for each tick of the x axis, with its label and the gap beside it."""
_LEAST_WIDTH, _LEAST_HEIGHT = 12, 4
_PRINTED: dict[str, str] = {f"bold {TEXT}": "bold", TEXT: "", MUTED: "dim"}
"""On a page ordinary text keeps the terminal's own colour, which may be light or dark."""
_figure_lock = threading.Lock()
"""Held while plotext's one figure, which all its public functions draw on, is in use."""


def resolution_of(width: int, height: int, grain: PlotStyle) -> Resolution:
    """Return the resolution of a plot of `width` columns and `height` rows of characters."""
    inside = width - _AXIS_COLUMNS
    return Resolution(
        num_columns=max(8, DOTS[grain][0] * inside),
        num_rows=max(3, height - _AXIS_ROWS),
        max_ticks=max(2, inside // _TICK_COLUMNS),
    )


def draw(chart: Chart, width: int, height: int, grain: PlotStyle) -> list[list[Cell]]:
    """Return `height` rows of `width` cells: title and legend, the plot, the x axis, its labels; none if too small."""
    if width < _LEAST_WIDTH or height < _LEAST_HEIGHT:
        return []
    head = _head(chart, width)
    if not chart.has_points:
        return [head, *_centered(chart.empty, width, height - 1)]
    *sides, axis = _frame(chart.x, chart.y, width, height - 2)
    left = axis.index("└") + 1
    canvas = Canvas(width - left, len(sides), grain)
    _draw_series(canvas, chart)
    _draw_beneath(canvas, chart)
    rows = [_muted(side[:left]) + canvas.row(number) for number, side in enumerate(sides)]
    return [head, *rows, _muted(axis), _muted(_x_labels(chart, left, width))]


def text_rows(chart: Chart, width: int, height: int) -> list[Text]:
    """Return the rows of `draw` in braille, for a terminal of any background, without blanks at their ends."""
    rows = []
    for cells in draw(chart, width, height, "braille"):
        row = Text()
        for style, part in groupby(cells, key=lambda cell: cell[1]):
            row.append("".join([character for character, _ in part]), _PRINTED.get(style, style) or None)
        row.rstrip()
        rows.append(row)
    return rows


# --- the frame -----------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _frame(x: Axis, y: Axis, width: int, height: int) -> tuple[str, ...]:
    """Return the rows of empty axes, top first; the last is the x axis.

    Args:
        x: horizontal axis, its limits finite.
        y: vertical axis, its limits finite.
        width: columns of characters.
        height: rows of characters, the x axis among them.
    """
    import plotext  # takes 50 ms: only with the first plot

    y_ticks: dict[int, tuple[float, str]] = {}
    for row, tick, label in zip(_cells_of_ticks(y, height - 1), y.ticks(), y.labels(), strict=True):
        y_ticks.setdefault(row, (tick, label.rjust(_AXIS_COLUMNS - 1)))  # of two in a row plotext shows either
    with _figure_lock:
        plotext.clear_figure()
        plotext.clear_color()
        plotext.limit_size(False, False)  # COLUMNS and LINES may belong to another window
        plotext.plot_size(width, height + 1)
        plotext.xaxes(True, False)
        plotext.yaxes(True, False)
        plotext.xlim(x.lower, x.upper)
        plotext.ylim(y.lower, y.upper)
        plotext.xticks(x.ticks(), [""] * len(x.ticks()))  # the labels' row stays empty: see _x_labels
        plotext.yticks([tick for tick, _ in y_ticks.values()], [label for _, label in y_ticks.values()])
        plotext.scatter([x.lower], [y.lower], marker=" ")
        return tuple(plotext.uncolorize(plotext.build()).splitlines()[:-1])


def _cells_of_ticks(axis: Axis, num_cells: int) -> list[int]:
    """Return the cell of every tick, counted from the lower end of `axis`, by plotext's rounding."""
    span = axis.upper - axis.lower
    return [math.floor(round(0.5 + (num_cells - 1) * (tick - axis.lower) / span, 8)) for tick in axis.ticks()]


def _x_labels(chart: Chart, left: int, width: int) -> str:
    """Return the labels below the ticks; the last, which names the unit, goes before any that it would touch.

    plotext does it the other way round, and so loses the unit.
    """
    row = [" "] * width
    labels = chart.x.labels()
    last = f"{labels[-1]} {chart.x_unit}"
    labels[-1] = last if len(last) <= width else chart.x_unit
    for cell, label in reversed(list(zip(_cells_of_ticks(chart.x, width - left), labels, strict=True))):
        start = max(0, min(left + cell - len(label) // 2, width - len(label)))
        if all(character == " " for character in row[max(0, start - 1) : start + len(label) + 1]):
            row[start : start + len(label)] = label
    return "".join(row)


def _muted(text: str) -> list[Cell]:
    return [(character, MUTED if character != " " else "") for character in text]


def _head(chart: Chart, width: int) -> list[Cell]:
    """Return the title and as much of the legend as fits beside it."""
    cells: list[Cell] = [(character, f"bold {TEXT}") for character in chart.title]
    gap = 3 if len(cells) + sum(3 + len(text) for text, _ in chart.legend) <= width else 2
    for text, color in chart.legend:
        if len(cells) + gap + len(text) <= width:
            cells += [(" ", "")] * gap + [(character, color) for character in text]
    return cells + [(" ", "")] * (width - len(cells))


def _centered(text: str, width: int, height: int) -> list[list[Cell]]:
    rows: list[list[Cell]] = [[(" ", "")] * width for _ in range(height)]
    fitting = text[:width]
    left = (width - len(fitting)) // 2
    rows[height // 2][left : left + len(fitting)] = [(character, MUTED) for character in fitting]
    return rows


# --- inside the axes -----------------------------------------------------------------------------


def _across(canvas: Canvas, chart: Chart, x: float) -> int:
    """Return the column of dots of a place on the x axis."""
    return _dot((x - chart.x.lower) / (chart.x.upper - chart.x.lower), canvas.num_across)


def _down(canvas: Canvas, chart: Chart, y: float) -> int:
    """Return the row of dots of a height, counted from the top."""
    return _dot((chart.y.upper - y) / (chart.y.upper - chart.y.lower), canvas.num_down)


def _dot(share: float, num_dots: int) -> int:
    """Return the dot at a share of an axis; one far outside becomes near, so that a line to it is soon drawn."""
    return round(min(2.0, max(-1.0, share)) * (num_dots - 1))


def _draw_series(canvas: Canvas, chart: Chart) -> None:
    """Draw bands and lines: what comes later covers what came before."""
    for band in chart.bands:
        for number, column in enumerate(band.columns):
            if column is not None:
                at = int((number + 0.5) / len(band.columns) * canvas.num_across)
                canvas.upright(at, _down(canvas, chart, column.low), _down(canvas, chart, column.high), band.color)
    for line in chart.lines:
        points = [point for point in zip(line.xs, line.ys, strict=True) if all(map(math.isfinite, point))]
        dots = [(_across(canvas, chart, x), _down(canvas, chart, y)) for x, y in points]
        if line.marker:
            for dot in dots:
                canvas.mark(*dot, line.marker, line.color)
        else:
            canvas.curve(dots, line.color)


def _draw_beneath(canvas: Canvas, chart: Chart) -> None:
    """Write cursor, marks, reference and boundaries where no series is."""
    per_column, per_row = canvas.num_across // canvas.num_columns, canvas.num_down // canvas.num_rows
    x, y = chart.x, chart.y

    def upright(at: float, character: str, color: str) -> None:
        for row in range(canvas.num_rows):
            canvas.under(_across(canvas, chart, at) // per_column, row, character, color)

    if chart.cursor is not None and x.lower <= chart.cursor <= x.upper:
        upright(chart.cursor, "│", TEXT)
    for mark in chart.marks:
        if x.lower <= mark.x <= x.upper:
            column = _across(canvas, chart, mark.x) // per_column
            start = min(column, canvas.num_columns - len(mark.label))
            if canvas.is_free(start, 0, len(mark.label)):
                canvas.under(start, 0, mark.label, mark.color)
            else:  # a part of it would say something wrong
                canvas.under(column, 0, mark.label[:1], mark.color)
    if chart.reference is not None and y.lower <= chart.reference.y <= y.upper:
        level, label = _down(canvas, chart, chart.reference.y) // per_row, f" {chart.reference.label} "
        starts = range(canvas.num_columns - len(label), -1, -1)
        free = next((start for start in starts if canvas.is_free(start, level, len(label))), None)
        if free is not None:  # as far right as it is not covered: curves come from the left
            canvas.under(free, level, label, chart.reference.color)
        canvas.under(0, level, "┄" * canvas.num_columns, chart.reference.color)
    for at in chart.boundaries:
        if x.lower < at < x.upper:
            upright(at, "┊", MUTED)
