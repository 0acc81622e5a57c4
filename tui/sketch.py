"""Small plots as rows of text, of braille dots or of ASCII, for pages that are printed. Knows no runs, no terminal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tui.widgets.axes import Axis

_LABEL_COLUMNS = 6
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille cell, by row and column of its dots."""


@dataclass(frozen=True)
class Curve:
    """A series. With a `marker` every point is that character; without, the points are joined by dots."""

    xs: Sequence[float]
    ys: Sequence[float]
    color: str = ""
    marker: str = ""


@dataclass(frozen=True)
class Sketch:
    """All that a plot shows. `level` is a dashed height, `boundaries` dotted places on the x axis."""

    title: str
    x: Axis
    y: Axis
    x_unit: str
    curves: tuple[Curve, ...]
    legend: tuple[tuple[str, str], ...] = ()
    """Text and colour."""
    level: tuple[float, str] | None = None
    boundaries: tuple[float, ...] = ()


def num_columns(width: int) -> int:
    """Return how many columns of characters the canvas of a plot of this width has."""
    return max(4, width - _LABEL_COLUMNS - 1)


def draw(sketch: Sketch, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """Return `height` rows of at most `width` columns: title and legend, the canvas, the x axis and its labels."""
    canvas = _Canvas(sketch.x, sketch.y, num_columns(width), max(2, height - 3), ascii_only)
    if sketch.level is not None:
        canvas.level(*sketch.level)
    for at in sketch.boundaries:
        canvas.boundary(at)
    for curve in sketch.curves:
        canvas.curve(curve)
    return [_head(sketch, width), *_with_labels(canvas, sketch.y), *_foot(sketch, canvas)]


class _Canvas:
    """Cells of a character and a colour, drawn on in the order of calls."""

    def __init__(self, x: Axis, y: Axis, columns: int, rows: int, ascii_only: bool) -> None:
        self.x, self.y, self.columns, self.rows, self.ascii_only = x, y, columns, rows, ascii_only
        self.cells: list[list[tuple[str, str]]] = [[(" ", "")] * columns for _ in range(rows)]

    def level(self, height: float, color: str) -> None:
        row = self.dot(self.x.lower, height)
        if row is not None:
            for column in range(0, self.columns, 1 if not self.ascii_only else 2):
                self.cells[row[1] // 4][column] = ("-" if self.ascii_only else "┄", color)

    def boundary(self, at: float) -> None:
        dot = self.dot(at, self.y.lower)
        if dot is not None:
            for row in range(self.rows):
                self.cells[row][dot[0] // 2] = ("|" if self.ascii_only else "┊", "")

    def curve(self, curve: Curve) -> None:
        before: tuple[int, int] | None = None
        for x, y in zip(curve.xs, curve.ys, strict=True):
            dot = self.dot(x, y)
            if dot is not None and curve.marker:
                self.cells[dot[1] // 4][dot[0] // 2] = (curve.marker, curve.color)
            elif dot is not None:
                self._join(before or dot, dot, curve.color)
            before = dot

    def dot(self, x: float, y: float) -> tuple[int, int] | None:
        """Return the column and row of dots of a place; None outside the axes."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return None
        across = (x - self.x.lower) / (self.x.upper - self.x.lower)
        up = (y - self.y.lower) / (self.y.upper - self.y.lower)
        if not (-1e-9 <= across <= 1 + 1e-9 and -1e-9 <= up <= 1 + 1e-9):
            return None
        return round(across * (2 * self.columns - 1)), round((1 - up) * (4 * self.rows - 1))

    def _join(self, start: tuple[int, int], end: tuple[int, int], color: str) -> None:
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(length + 1):
            column = round(start[0] + (end[0] - start[0]) * step / length)
            row = round(start[1] + (end[1] - start[1]) * step / length)
            held = self.cells[row // 4][column // 2][0]
            if self.ascii_only:
                shown = "."
            else:
                bits = ord(held) - _BRAILLE if _BRAILLE <= ord(held) < _BRAILLE + 256 else 0
                shown = chr(_BRAILLE + (bits | _DOTS[row % 4][column % 2]))
            self.cells[row // 4][column // 2] = (shown, color)


def _head(sketch: Sketch, width: int) -> Text:
    row = Text.assemble((f"{sketch.title:>{_LABEL_COLUMNS}}", "bold"))
    for text, color in sketch.legend:
        if row.cell_len + 2 + len(text) <= width:
            row.append("  ").append(text, color or None)
    return row


def _with_labels(canvas: _Canvas, axis: Axis) -> list[Text]:
    """Return the rows of the canvas behind the y axis; of two ticks in one row, the first is labelled."""
    labels: dict[int, str] = {}
    for tick, label in zip(axis.ticks(), axis.labels(), strict=True):
        dot = canvas.dot(canvas.x.lower, tick)
        if dot is not None:
            labels.setdefault(dot[1] // 4, label)
    bar, tick_bar = ("|", "+") if canvas.ascii_only else ("│", "┤")
    rows = []
    for number, cells in enumerate(canvas.cells):
        label = labels.get(number, "")
        row = Text.assemble((f"{label:>{_LABEL_COLUMNS}}{tick_bar if label else bar}", "dim"))
        for char, color in cells:
            row.append(char, color or None)
        row.rstrip()
        rows.append(row)
    return rows


def _foot(sketch: Sketch, canvas: _Canvas) -> list[Text]:
    """Return the x axis and its labels; one that would touch its neighbour is left out, the last names the unit."""
    line, corner, tick_mark = ("-", "+", "+") if canvas.ascii_only else ("─", "└", "┬")
    axis, labels = [line] * canvas.columns, [" "] * (canvas.columns + _LABEL_COLUMNS + 1)
    ticks = list(zip(sketch.x.ticks(), sketch.x.labels(), strict=True))
    for number, (tick, label) in enumerate(reversed(ticks)):
        dot = canvas.dot(tick, canvas.y.lower)
        if dot is None:
            continue
        column = dot[0] // 2
        text = f"{label} {sketch.x_unit}" if number == 0 else label
        start = min(column + _LABEL_COLUMNS + 1 - len(label) // 2, len(labels) - len(text))
        axis[column] = tick_mark
        if start >= 0 and all(cell == " " for cell in labels[max(0, start - 1) : start + len(text) + 1]):
            labels[start : start + len(text)] = text
    return [
        Text(f"{'':{_LABEL_COLUMNS}}{corner}{''.join(axis)}", "dim"),
        Text("".join(labels).rstrip(), "dim"),
    ]
