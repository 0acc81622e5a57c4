"""A canvas of characters that curves are drawn on, as fine as the terminal's characters allow.

Braille has 2 × 4 dots in a character, quadrant blocks 2 × 2, ASCII one. Knows dots and colours; no axes, no values.
"""

from collections.abc import Sequence
from itertools import pairwise

from tui.display import PlotStyle

DOTS: dict[PlotStyle, tuple[int, int]] = {"braille": (2, 4), "blocks": (2, 2), "ascii": (1, 1)}
"""Dots in a character, across and down."""

_BITS: dict[PlotStyle, tuple[tuple[int, ...], ...]] = {  # by column of dots, then row of dots from the top
    "braille": ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)),
    "blocks": ((1, 4), (2, 8)),
    "ascii": ((1,),),
}
_CHARACTERS: dict[PlotStyle, str] = {
    "braille": " " + "".join(chr(0x2800 + mask) for mask in range(1, 256)),
    "blocks": " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█",
    "ascii": " *",
}


class Canvas:
    """Rows of cells, each with the dots that are set, one colour, and perhaps a character in place of the dots."""

    def __init__(self, num_columns: int, num_rows: int, grain: PlotStyle) -> None:
        self.num_columns, self.num_rows = num_columns, num_rows
        self.num_across, self.num_down = num_columns * DOTS[grain][0], num_rows * DOTS[grain][1]
        """Dots of the whole canvas."""
        self._grain = grain
        self._per_column, self._per_row = DOTS[grain]
        self._bits = _BITS[grain]
        self._masks = [[0] * num_columns for _ in range(num_rows)]
        self._colors = [[""] * num_columns for _ in range(num_rows)]
        self._marks: list[dict[int, str]] = [{} for _ in range(num_rows)]

    def dot(self, across: int, down: int, color: str) -> None:
        """Set the dot at (across, down), counted from the upper left; one outside is left out.

        A cell has one colour: dots of another one go, so that a curve stays as thin as it is over what is beneath.
        """
        if 0 <= across < self.num_across and 0 <= down < self.num_down:
            column, row = across // self._per_column, down // self._per_row
            if self._colors[row][column] != color:
                self._masks[row][column], self._colors[row][column] = 0, color
            self._masks[row][column] |= self._bits[across % self._per_column][down % self._per_row]

    def upright(self, across: int, first: int, last: int, color: str) -> None:
        """Set the dots from `first` to `last` (included) of a column of dots."""
        for down in range(max(0, min(first, last)), min(self.num_down - 1, max(first, last)) + 1):
            self.dot(across, down, color)

    def curve(self, dots: Sequence[tuple[int, int]], color: str) -> None:
        """Join dots by straight lines, in their order."""
        if len(dots) == 1:
            self.dot(*dots[0], color)
        for (x0, y0), (x1, y1) in pairwise(dots):
            num_steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for step in range(num_steps + 1):
                share = step / num_steps
                self.dot(round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share), color)

    def mark(self, across: int, down: int, character: str, color: str) -> None:
        """Put a character in place of the cell in which a dot lies; one outside is left out."""
        column, row = across // self._per_column, down // self._per_row
        if 0 <= column < self.num_columns and 0 <= row < self.num_rows:
            self._marks[row][column] = character
            self._colors[row][column] = color

    def under(self, column: int, row: int, text: str, color: str) -> None:
        """Write text into the cells from (column, row) on, but over nothing that is there."""
        for place, character in enumerate(text, start=column):
            inside = 0 <= place < self.num_columns and 0 <= row < self.num_rows
            if inside and not self._masks[row][place] and place not in self._marks[row]:
                self._marks[row][place] = character
                self._colors[row][place] = color

    def is_free(self, column: int, row: int, length: int) -> bool:
        """Return whether nothing is drawn in `length` cells from (column, row) on."""
        places = range(column, column + length)
        return all(not self._masks[row][place] and place not in self._marks[row] for place in places)

    def row(self, number: int) -> list[tuple[str, str]]:
        """Return character and colour ("" for none) of every cell of a row, counted from the top."""
        drawn, colors = _CHARACTERS[self._grain], self._colors[number]
        cells = [(drawn[mask], color) for mask, color in zip(self._masks[number], colors, strict=True)]
        for column, character in self._marks[number].items():
            cells[column] = character, colors[column]
        return cells
