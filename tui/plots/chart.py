"""Chart: everything that a plot shows, as plain data. The only vocabulary of plots; no runs, no output.

Drawn by `render` on the screen and on the printed page, and by `export` as SVG.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tui.plots.axes import Axis
from tui.plots.downsample import Column


@dataclass(frozen=True)
class Resolution:
    """Size of the output that a chart is made for: more detail than this is not worth computing."""

    num_columns: int
    """Columns of dots inside the axes."""
    num_rows: int
    """Rows of characters inside the axes, which ticks of the y axis are aligned to."""
    max_ticks: int
    """Ticks that the x axis can label without crowding."""


@dataclass(frozen=True)
class Line:
    """A series. `marker` is a character put at every point; "" joins the points by a line."""

    xs: Sequence[float]
    ys: Sequence[float]
    color: str
    marker: str = ""


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
    """An event at a place on the x axis, named at the upper edge."""

    x: float
    label: str
    color: str


@dataclass(frozen=True)
class Chart:
    """A plot's axes, series and labels. Values that are not finite are left out by every output."""

    title: str
    x: Axis
    y: Axis
    x_unit: str
    lines: tuple[Line, ...]
    legend: tuple[tuple[str, str], ...] = ()
    """Text and colour, in one row beside the title."""
    reference: Reference | None = None
    empty: str = ""
    """Text in place of a plot without points."""
    boundaries: tuple[float, ...] = ()
    """Places on the x axis where a stage begins, or a result lies: dotted from bottom to top."""
    bands: tuple[Band, ...] = ()
    """Beneath the lines."""
    marks: tuple[Mark, ...] = ()
    cursor: float | None = None
    """Place on the x axis where values are read on the screen: drawn from bottom to top."""

    @property
    def has_points(self) -> bool:
        """True if there is any series to draw."""
        return any(len(line.xs) for line in self.lines) or any(any(band.columns) for band in self.bands)
