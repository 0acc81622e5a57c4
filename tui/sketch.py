"""Small plots as rows of text, of braille dots, for pages that are printed. Knows no runs, no terminal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from tui.display import PlotStyle
from tui.widgets.axes import Axis
from tui.widgets.raster import DOTS, Canvas

_LABEL_COLUMNS = 6
_GRAIN: PlotStyle = "braille"
_ACROSS, _DOWN = DOTS[_GRAIN]


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


def draw(sketch: Sketch, width: int, height: int) -> list[Text]:
    """Return `height` rows of at most `width` columns: title and legend, the canvas, the x axis and its labels."""
    canvas = Canvas(num_columns(width), max(2, height - 3), _GRAIN)
    for curve in sketch.curves:
        _draw_curve(canvas, sketch, curve)
    for at in sketch.boundaries:
        place = _place(canvas, sketch, at, sketch.y.lower)
        if place is not None:
            for row in range(canvas.num_rows):
                canvas.under(place[0] // _ACROSS, row, "┊", "")
    if sketch.level is not None:
        place = _place(canvas, sketch, sketch.x.lower, sketch.level[0])
        if place is not None:
            canvas.under(0, place[1] // _DOWN, "┄" * canvas.num_columns, sketch.level[1])
    return [_head(sketch, width), *_with_labels(canvas, sketch), *_foot(canvas, sketch)]


def _place(canvas: Canvas, sketch: Sketch, x: float, y: float) -> tuple[int, int] | None:
    """Return the column and row of dots of a place; None outside the axes."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    across = (x - sketch.x.lower) / (sketch.x.upper - sketch.x.lower)
    up = (y - sketch.y.lower) / (sketch.y.upper - sketch.y.lower)
    if not (-1e-9 <= across <= 1 + 1e-9 and -1e-9 <= up <= 1 + 1e-9):
        return None
    return round(across * (canvas.num_across - 1)), round((1 - up) * (canvas.num_down - 1))


def _draw_curve(canvas: Canvas, sketch: Sketch, curve: Curve) -> None:
    """Draw the points as marks, or joined; a line has a gap where a point is outside the axes."""
    places = [_place(canvas, sketch, x, y) for x, y in zip(curve.xs, curve.ys, strict=True)]
    for is_inside, part in groupby(places, key=lambda place: place is not None):
        inside = [place for place in part if place is not None] if is_inside else []
        if not curve.marker:
            canvas.curve(inside, curve.color)
            continue
        for place in inside:
            canvas.mark(*place, curve.marker, curve.color)


def _head(sketch: Sketch, width: int) -> Text:
    row = Text.assemble((f"{sketch.title:>{_LABEL_COLUMNS}}", "bold"))
    for text, color in sketch.legend:
        if row.cell_len + 2 + len(text) <= width:
            row.append("  ").append(text, color or None)
    return row


def _with_labels(canvas: Canvas, sketch: Sketch) -> list[Text]:
    """Return the rows of the canvas behind the y axis; of two ticks in one row, the first is labelled."""
    labels: dict[int, str] = {}
    for tick, label in zip(sketch.y.ticks(), sketch.y.labels(), strict=True):
        place = _place(canvas, sketch, sketch.x.lower, tick)
        if place is not None:
            labels.setdefault(place[1] // _DOWN, label)
    rows = []
    for number in range(canvas.num_rows):
        label = labels.get(number, "")
        row = Text.assemble((f"{label:>{_LABEL_COLUMNS}}{'┤' if label else '│'}", "dim"))
        for char, color in canvas.row(number):
            row.append(char, color or None)
        row.rstrip()
        rows.append(row)
    return rows


def _foot(canvas: Canvas, sketch: Sketch) -> list[Text]:
    """Return the x axis and its labels; one that would touch its neighbour is left out, the last names the unit."""
    axis, labels = ["─"] * canvas.num_columns, [" "] * (canvas.num_columns + _LABEL_COLUMNS + 1)
    ticks = list(zip(sketch.x.ticks(), sketch.x.labels(), strict=True))
    for number, (tick, label) in enumerate(reversed(ticks)):
        place = _place(canvas, sketch, tick, sketch.y.lower)
        if place is None:
            continue
        column = place[0] // _ACROSS
        text = f"{label} {sketch.x_unit}" if number == 0 else label
        start = min(column + _LABEL_COLUMNS + 1 - len(label) // 2, len(labels) - len(text))
        axis[column] = "┬"
        if start >= 0 and all(cell == " " for cell in labels[max(0, start - 1) : start + len(text) + 1]):
            labels[start : start + len(text)] = text
    return [
        Text(f"{'':{_LABEL_COLUMNS}}└{''.join(axis)}", "dim"),
        Text("".join(labels).rstrip(), "dim"),
    ]
