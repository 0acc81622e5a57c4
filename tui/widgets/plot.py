"""Plot: the widget that shows a Chart. Paints again only the rows that changed."""

from functools import lru_cache
from itertools import groupby

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.display import PlotStyle
from tui.plots.canvas import DOTS
from tui.plots.chart import Chart, Resolution
from tui.plots.render import Cell, draw, resolution_of


class Plot(Widget):
    """Shows the latest Chart given to `show`."""

    DEFAULT_CSS = "Plot { width: 1fr; height: 1fr; }"

    class Sized(Message):
        """Posted when the plot has another size, which another chart may fit better."""

    def __init__(self, *, grain: PlotStyle = "braille", id: str | None = None) -> None:
        """Make an empty plot, drawn as fine as `grain` says the terminal can."""
        super().__init__(id=id)
        self._grain: PlotStyle = grain
        self._cells: list[list[Cell]] = []
        self._rows: list[Strip] = []
        self.chart: Chart | None = None

    @property
    def resolution(self) -> Resolution:
        """Resolution worth giving a chart at the present size."""
        return resolution_of(self.size.width, self.size.height, self._grain)

    @property
    def last_place(self) -> float:
        """Place of the newest column of the bands, as a share of the x axis."""
        columns = self.chart.bands[0].columns if self.chart is not None and self.chart.bands else ()
        last = max((number for number, column in enumerate(columns) if column is not None), default=None)
        return 1.0 if last is None else last / max(1, len(columns) - 1)

    @property
    def column_width(self) -> float:
        """Width of a column of characters, as a share of the x axis."""
        return DOTS[self._grain][0] / max(1, self.resolution.num_columns - 1)

    def show(self, chart: Chart) -> list[int]:
        """Draw `chart` and return the rows that changed, which are the rows that will be painted."""
        self.chart = chart
        before, self._cells = self._cells, draw(chart, self.size.width, self.size.height, self._grain)
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


def _regions(rows: list[int], width: int) -> list[Region]:
    """Return one region for every unbroken group of rows."""
    grouped = groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0])
    groups = [[row for _, row in group] for _, group in grouped]
    return [Region(0, group[0], width, len(group)) for group in groups]


def _strip(cells: list[Cell]) -> Strip:
    grouped = groupby(cells, key=lambda cell: cell[1])
    return Strip([Segment("".join([mark for mark, _ in group]), _style(color)) for color, group in grouped], len(cells))


@lru_cache(maxsize=64)
def _style(color: str) -> Style:
    return Style.parse(color) if color else Style.null()
