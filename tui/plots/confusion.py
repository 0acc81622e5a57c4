"""Confusion matrix of predictions as a picture: SVG for a page, PNG for a file. Writes no files.

Rows are true classes, columns predicted ones. A cell is as dark as its share of the row's images; right ones are blue,
mistakes orange, the larger hue difference for every kind of colour vision.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from engine.runs import scores
from engine.runs.predictions import Predictions
from tui import format as fmt

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

ORDERED_FROM = 13
"""From so many classes on, confused ones stand together; fewer stay in their own order."""
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)
"""Okabe and Ito's blue and vermillion, red, green and blue from 0 to 255."""
_INK, _GRID, _GUIDE = "#222222", "#d5d5d5", "#ebebeb"
_NUMBERED_TO = 20
"""Classes; in cells of more, numbers have no room."""
_GUIDE_EVERY = 10
_NAMED_TO = 300
_NAME_COLUMNS = 24
_CHARACTER = 0.56
"""Mean width of a character, over its height."""
_HEADING = 22
_DARK = 0.5


@dataclass(frozen=True)
class Matrix:
    """Counts of images by place of the true and of the predicted class in `names`."""

    names: tuple[str, ...]
    classes: tuple[int, ...]
    """Class index of each name."""
    counts: Mapping[tuple[int, int], int]
    totals: tuple[int, ...]
    """Images of each true class."""

    def share(self, row: int, column: int) -> float:
        """Return the fraction of a true class's images that is in a cell."""
        return self.counts.get((row, column), 0) / max(1, self.totals[row])

    def sentence(self, row: int, column: int) -> str:
        """Return a cell in words."""
        count, of = self.counts.get((row, column), 0), self.totals[row]
        known = "recognised" if row == column else f"taken for {self.names[column]}"
        share = f" ({fmt.percent(count / of)})" if of else ""
        return f"{self.names[row]} {known}: {count:,} of {of:,}{share}"


def matrix_of(found: Predictions) -> Matrix:
    """Return the confusion matrix of predictions, without classes that have no images and are never predicted."""
    cells = scores.matrix(found)
    used = {index for cell in cells for index in cell}
    order = scores.class_order(found) if len(used) >= ORDERED_FROM else range(len(found.class_names))
    classes = tuple(index for index in order if index in used)
    place = {index: number for number, index in enumerate(classes)}
    counts = {(place[true], place[predicted]): count for (true, predicted), count in cells.items()}
    totals = [0] * len(classes)
    for (row, _), count in counts.items():
        totals[row] += count
    return Matrix(tuple(found.class_names[index] for index in classes), classes, counts, tuple(totals))


def shade(share: float, *, is_right: bool) -> tuple[int, int, int]:
    """Return the colour of a cell: white for a share of 0, the full hue for 1. Mistakes rise faster, being rarer."""
    level = share if is_right else share**0.6
    red, green, blue = (round(255 + level * (full - 255)) for full in (RIGHT if is_right else WRONG))
    return red, green, blue


@dataclass(frozen=True)
class _Label:
    x: float
    y: float
    text: str
    size: float
    anchor: str
    """Of the text's own direction: start, middle or end."""
    color: str = _INK
    is_upright: bool = False
    """Written from bottom to top."""


class _Layout:
    """Places of cells and labels, in pixels."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix, number = matrix, len(matrix.names)
        self.cell = next(
            side
            for side, most in ((64, 4), (34, 12), (28, 20), (18, 50), (10, 120), (7, 300), (4, 2**31))
            if number <= most
        )
        self.font = min(12.0, 0.95 * self.cell)
        widest = max((len(name) for name in matrix.names), default=0) if number <= _NAMED_TO else 0
        self.margin = _HEADING + min(widest, _NAME_COLUMNS) * _CHARACTER * self.font + 8
        self.side = self.margin + number * self.cell + 6

    def guides(self) -> list[float]:
        """Return the places of lines across, from the first cell on, that an eye can follow between many classes."""
        number = len(self.matrix.names)
        return (
            [place * self.cell for place in range(_GUIDE_EVERY, number, _GUIDE_EVERY)] if number > _NUMBERED_TO else []
        )

    def cells(self) -> Iterator[tuple[float, float, tuple[int, int, int], int, int]]:
        """Yield left, top, colour, row and column of the cells that hold images."""
        for row, column in sorted(self.matrix.counts):
            color = shade(self.matrix.share(row, column), is_right=row == column)
            yield self.margin + column * self.cell, self.margin + row * self.cell, color, row, column

    def labels(self) -> Iterator[_Label]:
        matrix, cell, number = self.matrix, self.cell, len(self.matrix.names)
        middle = self.margin + number * cell / 2
        yield _Label(middle, 14, "predicted", 12, "middle")
        yield _Label(14, middle, "true", 12, "middle", is_upright=True)
        if number <= _NAMED_TO:
            for place, name in enumerate(matrix.names):
                at, shown = self.margin + (place + 0.5) * cell + 0.35 * self.font, fmt.cut(name, _NAME_COLUMNS)
                yield _Label(self.margin - 5, at, shown, self.font, "end")
                yield _Label(at, self.margin - 5, shown, self.font, "start", is_upright=True)
        if number <= _NUMBERED_TO:
            for (row, column), count in matrix.counts.items():
                x, y = self.margin + (column + 0.5) * cell, self.margin + (row + 0.5) * cell + 4
                level = matrix.share(row, column) ** (1 if row == column else 0.6)
                yield _Label(
                    x,
                    y,
                    f"{count}",
                    min(11, 1.7 * cell / max(2, len(f"{count}"))),
                    "middle",
                    "#ffffff" if level > _DARK else _INK,
                )


def matrix_svg(matrix: Matrix) -> str:
    """Return the picture as SVG, every cell with a title that says it in words."""
    layout = _Layout(matrix)
    side, cell = round(layout.side), layout.cell
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        f'role="img" aria-label="Confusion matrix" '
        f'font-family="sans-serif" fill="{_INK}">',
        f'<rect x="{layout.margin:g}" y="{layout.margin:g}" width="{len(matrix.names) * cell}" '
        f'height="{len(matrix.names) * cell}" fill="white" stroke="{_GRID}"/>',
    ]
    start, end = layout.margin, layout.margin + len(matrix.names) * cell
    guides = "".join(f"M{start:g} {start + at:g}H{end:g}M{start + at:g} {start:g}V{end:g}" for at in layout.guides())
    parts += [f'<path d="{guides}" stroke="{_GUIDE}"/>'] if guides else []
    for left, top, color, row, column in layout.cells():
        red, green, blue = color
        parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{cell}" height="{cell}" fill="#{red:02x}{green:02x}{blue:02x}">'
            f"<title>{escape(matrix.sentence(row, column))}</title></rect>"
        )
    for label in layout.labels():
        x, y = f"{label.x:g}", f"{label.y:g}"
        turned = f' transform="rotate(-90 {x} {y})"' if label.is_upright else ""
        parts.append(
            f'<text x="{x}" y="{y}" font-size="{label.size:g}" text-anchor="{label.anchor}" fill="{label.color}" '
            f'pointer-events="none"{turned}>{escape(label.text)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def matrix_png(matrix: Matrix) -> bytes:
    """Return the picture as a PNG file, at twice the size of the SVG up to 300 classes."""
    from PIL import Image, ImageDraw

    layout = _Layout(matrix)
    scale = 2 if len(matrix.names) <= _NAMED_TO else 1
    side = round(layout.side * scale)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    end = layout.margin + len(matrix.names) * layout.cell
    draw.rectangle([layout.margin * scale - 1, layout.margin * scale - 1, end * scale, end * scale], outline=_GRID)
    start = layout.margin
    for at in layout.guides():
        draw.line([start * scale, (start + at) * scale, end * scale, (start + at) * scale], fill=_GUIDE)
        draw.line([(start + at) * scale, start * scale, (start + at) * scale, end * scale], fill=_GUIDE)
    for left, top, color, _, _ in layout.cells():
        corner = [left * scale, top * scale, (left + layout.cell) * scale - 1, (top + layout.cell) * scale - 1]
        draw.rectangle(corner, fill=color)
    for label in layout.labels():
        _write(picture, draw, label, scale)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _write(picture: "Image", draw: "ImageDraw", label: _Label, scale: int) -> None:
    """Write a label on a picture."""
    from PIL import Image, ImageDraw

    font = _font(label.size * scale)
    left, _, right, bottom = draw.textbbox((0, 0), label.text, font=font)
    width, ascent = right - left, draw.textbbox((0, 0), "x", font=font)[3]
    before = {"start": 0.0, "middle": width / 2, "end": float(width)}[label.anchor]
    x, y = label.x * scale, label.y * scale
    if not label.is_upright:
        draw.text((x - before, y - ascent), label.text, fill=label.color, font=font)
        return
    strip = Image.new("RGB", (int(width) + 2, int(max(bottom, ascent)) + 2), "white")
    ImageDraw.Draw(strip).text((-left, 0), label.text, fill=label.color, font=font)
    turned = strip.rotate(90, expand=True)
    picture.paste(turned, (round(x - ascent), round(y + before - turned.height)))


def _font(size: float) -> Any:
    """Return Pillow's own font; of one size where Pillow is built without FreeType, or is older than 10.1."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError, OSError):
        return ImageFont.load_default()
