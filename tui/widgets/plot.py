"""A plot that keeps still: plotext draws it into rows, and only the rows that changed are painted again.

Knows charts as plain data; knows nothing of runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.palette import MUTED, TEXT
from tui.widgets.axes import Axis

_LABEL_COLUMNS = 5
"""About what the y axis and its labels take from the width."""


@dataclass(frozen=True)
class Line:
    """A series. `marker` is "braille" for a fine line, or a character put at every point."""

    xs: Sequence[float]
    ys: Sequence[float]
    color: str
    marker: str = "braille"


@dataclass(frozen=True)
class Reference:
    """A dotted level with its name."""

    y: float
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


class Plot(Widget):
    """Draws the latest Chart given to `show`."""

    DEFAULT_CSS = "Plot { width: 1fr; height: 1fr; }"

    def __init__(self, *, plain: bool = False, id: str | None = None) -> None:
        """Make an empty plot; `plain` draws with ASCII only, for terminals without braille."""
        super().__init__(id=id)
        self._plain = plain
        self._figure: Any = None
        self._rows: list[Strip] = []
        self.chart: Chart | None = None

    @property
    def num_columns(self) -> int:
        """How many columns of dots fit: the resolution worth giving a series."""
        return max(8, 2 * (self.size.width - _LABEL_COLUMNS))

    @property
    def max_ticks(self) -> int:
        """How many ticks the x axis can label without crowding."""
        return max(2, (self.size.width - _LABEL_COLUMNS) // 9)

    @property
    def num_rows(self) -> int:
        """How many rows of characters the canvas has: all but legend, axis and its labels."""
        return max(3, self.size.height - 3)

    def show(self, chart: Chart) -> list[int]:
        """Draw `chart` and return the rows that changed, which are the rows that will be painted."""
        self.chart = chart
        before, self._rows = self._rows, self._draw(chart, self.size.width, self.size.height)
        changed = [y for y, row in enumerate(self._rows) if y >= len(before) or before[y] != row]
        if len(before) > len(self._rows):
            self.refresh()
        elif changed:
            self.refresh(*_regions(changed, self.size.width))
        return changed

    def on_resize(self, _event: Resize) -> None:
        """Draw again at the new size."""
        self._rows = []
        if self.chart is not None:
            self.show(self.chart)

    def render_line(self, y: int) -> Strip:
        """Return a row as drawn before."""
        row = self._rows[y] if y < len(self._rows) else Strip.blank(self.size.width)
        return row.apply_style(self.rich_style)

    def _draw(self, chart: Chart, width: int, height: int) -> list[Strip]:
        if width < 12 or height < 4:
            return []
        head = [_legend(chart, width)]
        if not any(len(line.xs) for line in chart.lines):
            return [*head, *_centered(chart.empty, width, height - 1)]
        marker, color = self._draw_figure(chart, width, height - 1)
        return head + [_strip(marks, colors) for marks, colors in zip(reversed(marker), reversed(color), strict=True)]

    def _draw_figure(self, chart: Chart, width: int, height: int) -> tuple[list[list[str]], list[list[Any]]]:
        figure = self._fresh_figure(width, height)
        x, y = chart.x, chart.y
        figure.xlim(x.lower, x.upper)
        figure.ylim(y.lower, y.upper)
        figure.xticks(x.ticks(), [""] * len(x.ticks()))
        figure.yticks(y.ticks(), y.labels())
        if chart.reference is not None and y.lower <= chart.reference.y <= y.upper:
            self._draw_reference(figure, chart.reference, x, width)
        for at in chart.boundaries:
            if x.lower < at < x.upper:
                self._draw_boundary(figure, at, y, height)
        for line in chart.lines:
            self._draw_line(figure, line)
        figure.build()
        matrix = figure.monitor.matrix
        _write_x_labels(chart, matrix.marker, matrix.fullground)
        return matrix.marker, matrix.fullground

    def _fresh_figure(self, width: int, height: int) -> Any:
        if self._figure is None:
            from plotext._figure import _figure_class  # takes 50 ms: only with the first plot

            self._figure = _figure_class()
            self._figure._limit_size(False, False)
        figure = self._figure
        figure.clear_figure()
        figure.plotsize(width, height)
        figure.ticks_color(_rgb(MUTED))
        figure.xaxes(True, False)
        figure.yaxes(True, False)
        return figure

    def _draw_reference(self, figure: Any, reference: Reference, x: Axis, width: int) -> None:
        xs = [x.lower + (x.upper - x.lower) * column / width for column in range(width + 1)]
        dots = "-" if self._plain else "┄"
        figure.scatter(xs, [reference.y] * len(xs), marker=dots, color=_rgb(reference.color))
        figure.text(f" {reference.label} ", x=x.lower, y=reference.y, color=_rgb(reference.color), alignment="left")

    def _draw_boundary(self, figure: Any, at: float, y: Axis, height: int) -> None:
        ys = [y.lower + (y.upper - y.lower) * row / height for row in range(height + 1)]
        figure.scatter([at] * len(ys), ys, marker="|" if self._plain else "┊", color=_rgb(MUTED))

    def _draw_line(self, figure: Any, line: Line) -> None:
        points = [(a, b) for a, b in zip(line.xs, line.ys, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if not points:
            return
        xs, ys = [a for a, _ in points], [b for _, b in points]
        if line.marker == "braille":
            figure.plot(xs, ys, marker="*" if self._plain else "braille", color=_rgb(line.color))
        else:
            figure.scatter(xs, ys, marker="o" if self._plain else line.marker, color=_rgb(line.color))


def _write_x_labels(chart: Chart, marker: list[list[str]], color: list[list[Any]]) -> None:
    """Write the labels below the ticks; the last, which names the unit, goes before any that it would touch.

    plotext does it the other way round, and so loses the unit. Row 0 is the lowest, row 1 the axis.
    """
    row, width = [" "] * len(marker[0]), len(marker[0])
    columns = [column for column, mark in enumerate(marker[1]) if mark == "┬"]
    labels = chart.x.labels()
    labels[-1] += f" {chart.x_unit}"
    for column, label in reversed(list(zip(columns, labels, strict=False))):
        start = max(0, min(column - len(label) // 2, width - len(label)))
        if all(cell == " " for cell in row[max(0, start - 1) : start + len(label) + 1]):
            row[start : start + len(label)] = label
    marker[0], color[0] = row, [_rgb(MUTED)] * width


def _regions(rows: list[int], width: int) -> list[Region]:
    """Return one region for every unbroken group of rows."""
    grouped = groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0])
    groups = [[row for _, row in group] for _, group in grouped]
    return [Region(0, group[0], width, len(group)) for group in groups]


def _legend(chart: Chart, width: int) -> Strip:
    parts = [Segment(chart.title, _style(TEXT, True))]
    used = len(chart.title)
    gap = 3 if used + sum(3 + len(text) for text, _ in chart.legend) <= width else 2
    for text, color in chart.legend:
        if used + gap + len(text) <= width:
            parts += [Segment(" " * gap), Segment(text, _style(color))]
            used += gap + len(text)
    return Strip([*parts, Segment(" " * (width - used))], width)


def _centered(text: str, width: int, height: int) -> list[Strip]:
    rows = [Strip.blank(width) for _ in range(height)]
    said = text[:width]
    left = (width - len(said)) // 2
    rows[height // 2] = Strip(
        [Segment(" " * left), Segment(said, _style(MUTED)), Segment(" " * (width - left - len(said)))], width
    )
    return rows


def _strip(markers: list[str], colors: list[Any]) -> Strip:
    segments = []
    for color, cells in groupby(zip(markers, colors, strict=True), key=lambda cell: cell[1]):
        segments.append(Segment("".join(mark for mark, _ in cells), _style_of(color)))
    return Strip(segments, len(markers))


def _style_of(color: Any) -> Style:
    if not isinstance(color, tuple):
        return Style.null()
    return _style(f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}")


@lru_cache(maxsize=64)
def _style(color: str, bold: bool = False) -> Style:
    return Style(color=color, bold=bold or None)


@lru_cache(maxsize=64)
def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
