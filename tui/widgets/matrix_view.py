"""Widget of a confusion matrix: a row a true class, a column a predicted one, counts in the cells, and a cursor."""

from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui import format as fmt
from tui.plots.confusion import Matrix
from tui.theme import BAD, CURSOR, CURSOR_TEXT, FAINT, MUTED, TEXT, TRAIN, VAL

_NAME_WIDTH = 22
_STRONG, _NOTABLE = 0.2, 0.05
"""Shares of a row from which on a mistake is drawn as a bad one, and as one worth seeing."""


class MatrixView(Widget):
    """The cells around the cursor, as many as fit. Columns have the numbers of their rows."""

    DEFAULT_CSS = "MatrixView { width: 1fr; height: 1fr; }"

    class Moved(Message):
        """The cursor is on another cell."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.matrix: Matrix | None = None
        self.row = self.column = 0
        self._top = self._left = 0
        self._ranked: list[tuple[int, int]] = []

    def show(self, matrix: Matrix) -> None:
        """Show a matrix, with the cursor on its most frequent mistake."""
        self.matrix = matrix
        wrong = [cell for cell in matrix.counts if cell[0] != cell[1]]
        self._ranked = sorted(wrong, key=lambda cell: (-matrix.counts[cell], cell)) or [(0, 0)]
        self.go_to(*self._ranked[0])

    def go_to(self, row: int, column: int) -> None:
        """Put the cursor on a cell, or on the nearest one that there is."""
        assert self.matrix is not None, "moved only once shown"
        last = max(0, len(self.matrix.names) - 1)
        self.row, self.column = min(last, max(0, row)), min(last, max(0, column))
        rows, columns = self._fitting()
        self._top = _holding(self._top, self.row, rows, last + 1)
        self._left = _holding(self._left, self.column, columns, last + 1)
        self.refresh()
        self.post_message(self.Moved())

    def next_mistake(self, number: int) -> None:
        """Put the cursor on the mistake that is `number` places further down in frequency."""
        here = self._ranked.index((self.row, self.column)) if (self.row, self.column) in self._ranked else -number
        self.go_to(*self._ranked[(here + number) % len(self._ranked)])

    @property
    def place(self) -> int:
        """Place of the cursor among the mistakes, the most frequent being 1; 0 if it is on none."""
        return self._ranked.index((self.row, self.column)) + 1 if (self.row, self.column) in self._ranked else 0

    @property
    def num_mistakes(self) -> int:
        """Number of cells with mistakes."""
        return sum(row != column for row, column in self._ranked)

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        if self.matrix is not None:
            self.go_to(self.row, self.column)

    def render_line(self, y: int) -> Strip:
        """Return the header, or a row of the matrix."""
        matrix = self.matrix
        if matrix is None:
            return Strip.blank(self.size.width, self.rich_style)
        _, columns = self._fitting()
        shown = range(self._left, min(len(matrix.names), self._left + columns))
        row, width = self._top + y - 1, self._cell_width
        if y == 0:
            segments = [_segment(fmt.column("true  \\  predicted", self._name_width), MUTED)]
            segments += [_segment(f"{column + 1:>{width}}", self._of_header(column, self.column)) for column in shown]
        elif row < len(matrix.names):
            number = f"{row + 1:>{self._digits}} "
            name = fmt.column(matrix.names[row], self._name_width - len(number) - 1)
            segments = [_segment(f"{number}{name} ", self._of_header(row, self.row))]
            segments += [self._cell(row, column) for column in shown]
        else:
            segments = []
        return Strip(segments).adjust_cell_length(self.size.width).apply_style(self.rich_style)

    def _cell(self, row: int, column: int) -> Segment:
        assert self.matrix is not None, "drawn only once shown"
        count, share = self.matrix.counts.get((row, column), 0), self.matrix.share(row, column)
        text = f"{count or '·':>{self._cell_width}}"
        if (row, column) == (self.row, self.column):
            return Segment(text, Style(color=CURSOR_TEXT, bgcolor=CURSOR, bold=True, reverse=not self._has_colors))
        if not count:
            return _segment(text, FAINT)
        if row == column:
            return Segment(text, Style(color=TRAIN, bold=True))
        return _segment(text, BAD if share >= _STRONG else VAL if share >= _NOTABLE else MUTED)

    @property
    def _has_colors(self) -> bool:
        return bool(getattr(self.app, "has_colors", True))

    def _of_header(self, place: int, cursor: int) -> str:
        return TEXT if place == cursor else MUTED

    @property
    def _digits(self) -> int:
        return len(f"{len(self.matrix.names)}") if self.matrix is not None else 1

    @property
    def _cell_width(self) -> int:
        most = max(self.matrix.counts.values(), default=0) if self.matrix is not None else 0
        return max(2, self._digits, len(f"{most}")) + 1

    @property
    def _name_width(self) -> int:
        widest = max((len(name) for name in self.matrix.names), default=0) if self.matrix is not None else 0
        return self._digits + 2 + max(16, min(widest, _NAME_WIDTH))

    def _fitting(self) -> tuple[int, int]:
        """Return the numbers of rows and columns that fit, at least one of each."""
        across = (self.size.width - self._name_width) // self._cell_width
        return max(1, self.size.height - 1), max(1, across)


def _holding(start: int, wanted: int, fitting: int, number: int) -> int:
    """Return the first of the `fitting` places, of `number`, that are shown: moved no further than to hold `wanted`."""
    start = min(start, wanted) if wanted < start + fitting else wanted - fitting + 1
    return max(0, min(start, number - fitting))


def _segment(text: str, color: str) -> Segment:
    return Segment(text, Style(color=color))
