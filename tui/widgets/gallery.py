"""Gallery of images as half blocks: a character shows two pixels, one above the other, in 24-bit colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui import format as fmt
from tui.theme import MUTED

_GAP = 2
_CAPTION_ROWS = 2
_SMALLEST = 12
"""Columns of an image that stands beside the others of its group."""


@dataclass(frozen=True)
class Picture:
    """An image and two lines under it, each a text and its colour. `pixels` are bytes, rows of RGB, `side` a row."""

    pixels: bytes
    side: int
    captions: tuple[tuple[str, str], tuple[str, str]]


class Gallery(Widget):
    """Pictures in rows and columns, as many as fit."""

    class Sized(Message):
        """Another number of pictures may fit now."""

    DEFAULT_CSS = "Gallery { width: 1fr; height: 1fr; }"
    SIDES: ClassVar[tuple[int, ...]] = (48, 32, 24, 16)
    """Columns that an image may take (and half as many rows), the largest first."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.group = 1
        """Number of pictures that belong together, and stand in one row if they fit."""
        self.wanted = 6
        """The largest side at which at least so many pictures fit is taken."""
        self._rows: list[Strip] = []
        self._pictures: Sequence[Picture] = ()

    @property
    def shown_side(self) -> int:
        """The columns that each picture takes: its side in pixels."""
        if self.group > 1:
            widest = (self.size.width + _GAP) // self.group - _GAP
            highest = 2 * (self.size.height - _CAPTION_ROWS)
            return max(_SMALLEST, min(widest, highest, self.SIDES[0]) // 2 * 2)
        fitting = (side for side in self.SIDES if self._columns(side) * self._lines(side) >= self.wanted)
        return next(fitting, self.SIDES[-1])

    @property
    def capacity(self) -> int:
        """Number of pictures that fit."""
        return max(1, self._columns(self.shown_side)) * max(1, self._lines(self.shown_side))

    def _columns(self, side: int) -> int:
        fitting = (self.size.width + _GAP) // (side + _GAP)
        return fitting // self.group * self.group or fitting

    def _lines(self, side: int) -> int:
        return (self.size.height + 1) // (side // 2 + _CAPTION_ROWS + 1)

    def show(self, pictures: Sequence[Picture]) -> None:
        """Draw `pictures`, of which the first `capacity` are seen."""
        self._pictures = pictures
        side = self.shown_side
        self._rows = self.draw(pictures[: self.capacity], side, max(1, self._columns(side)))
        self.refresh()

    def draw(self, pictures: Sequence[Picture], side: int, columns: int) -> list[Strip]:
        """Return the rows of `pictures`, `columns` of them beside each other."""
        rows = []
        for start in range(0, len(pictures), columns):
            line = pictures[start : start + columns]
            drawn = [self.cells(picture, side) for picture in line]
            rows += [self._join([cells[row] for cells in drawn]) for row in range(side // 2)]
            for number in range(_CAPTION_ROWS):
                rows.append(self._join([_caption(*picture.captions[number], side) for picture in line]))
            rows.append(Strip.blank(self.size.width))
        return rows

    def cells(self, picture: Picture, side: int) -> list[Strip]:
        """Return a picture as `side` // 2 rows of `side` characters."""
        return half_blocks(picture, side)

    def place(self, number: int, side: int, columns: int) -> tuple[int, int]:
        """Return the column and row at which picture `number` begins."""
        return number % columns * (side + _GAP), number // columns * (side // 2 + _CAPTION_ROWS + 1)

    def _join(self, cells: Sequence[Strip]) -> Strip:
        gap = Strip.blank(_GAP)
        return Strip.join([part for cell in cells for part in (cell, gap)]).adjust_cell_length(self.size.width)

    def on_resize(self) -> None:
        """Draw again at the new size."""
        self.show(self._pictures)
        self.post_message(self.Sized())

    def render_line(self, y: int) -> Strip:
        """Return a row as drawn before."""
        row = self._rows[y] if y < len(self._rows) else Strip.blank(self.size.width)
        return row.apply_style(self.rich_style)


def half_blocks(picture: Picture, side: int) -> list[Strip]:
    """Return `side` // 2 rows of `side` characters."""
    pixels = resize(picture.pixels, picture.side, side)
    rows = []
    for top in range(0, side, 2):
        row = []
        for column in range(side):
            above, below = (3 * (line * side + column) for line in (top, top + 1))
            row.append(Segment("▀", _style(pixels[above : above + 3], pixels[below : below + 3])))
        rows.append(Strip(row, side))
    return rows


def resize(pixels: bytes, side: int, wanted: int) -> bytes:
    """Return a square RGB image in another size: means of the pixels that fall together, or the nearest ones."""
    if side == wanted:
        return pixels
    spans = [
        (place * side // wanted, max(place * side // wanted + 1, (place + 1) * side // wanted))
        for place in range(wanted)
    ]
    result = bytearray()
    for top, bottom in spans:
        for left, right in spans:
            count = (bottom - top) * (right - left)
            for plane in range(3):
                total = sum(
                    sum(pixels[3 * (row * side + left) + plane : 3 * (row * side + right) + plane : 3])
                    for row in range(top, bottom)
                )
                result.append(total // count)
    return bytes(result)


def _caption(text: str, color: str, width: int) -> Strip:
    return Strip([Segment(fmt.column(text, width), Style(color=color or MUTED))], width)


@lru_cache(maxsize=8192)
def _style(above: bytes, below: bytes) -> Style:
    return Style(color=f"#{above.hex()}", bgcolor=f"#{below.hex()}")
