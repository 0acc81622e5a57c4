"""Chart of a learning-rate range test: its loss over the learning rate, for the Monitor and as printed rows."""

import math
import textwrap

from rich.text import Text

from engine.journal.state import RunState
from presets.schema import Preset
from tui.data.range_test import Verdict, in_words, loss_range, verdict
from tui.plots.axes import Axis, ValueAxis, log_axis, lr_axis
from tui.plots.chart import Chart, Line, Mark, Resolution
from tui.plots.metrics import MONOCHROME, View
from tui.plots.render import resolution_of, text_rows
from tui.theme import MUTED, TEXT, TRAIN, TRAIN_RANGE, VAL

_PLOT_ROWS = 14
_WIDEST = 100


class LrChart:
    """The loss of batches, and that smoothed, over the learning rate; the suggestion is marked."""

    def __init__(self, preset: Preset) -> None:
        """Make the chart of the range test that `preset` is."""
        self._preset = preset
        self._y = ValueAxis()

    def chart(self, state: RunState, resolution: Resolution, view: View) -> Chart:
        """Return the chart of `state` at `resolution`."""
        found = verdict(self._preset, state)
        assert found is not None
        return lr_chart(found, self._y, resolution, view)


def lr_chart(found: Verdict, linear: ValueAxis, resolution: Resolution, view: View) -> Chart:
    """Return the chart of a range test.

    Args:
        found: its curve and what it suggests.
        linear: the axis of losses, unless `view` asks for a logarithmic one.
        resolution: to make it for.
        view: of which only the cursor, the logarithm and the colours matter.
    """
    x = lr_axis(math.log10(found.first_lr), math.log10(found.last_lr))
    y = _loss_axis(found, linear, resolution.num_rows, is_log=view.is_log)
    cursor = view.cursor_on(x)
    places = [math.log10(point.lr) for point in found.points]
    batches = Line(places, _heights([point.loss for point in found.points], y, is_log=view.is_log), TRAIN_RANGE)
    smoothed = Line(places, _heights(found.smoothed, y, is_log=view.is_log), TRAIN)
    return Chart(
        title="loss",
        x=x,
        y=y,
        x_unit="lr",
        lines=(batches, smoothed) if view.is_coloured else (smoothed,),
        legend=_legend(found, view) if cursor is None else _reading(found, cursor),
        empty="no batch trained yet",
        boundaries=() if found.lr is None else (math.log10(found.lr),),
        marks=() if found.lr is None else (Mark(math.log10(found.lr), f"▾ {found.lr:g}", VAL),),
        cursor=cursor,
    )


def rows_of(found: Verdict, width: int, *, coloured: bool) -> list[Text]:
    """Return the plot, the suggestion in words, and how to train with it, at most 100 columns wide."""
    width = min(width, _WIDEST)
    view = View() if coloured else MONOCHROME
    chart = lr_chart(found, ValueAxis(), resolution_of(width, _PLOT_ROWS, "braille"), view)
    rows = [*text_rows(chart, width, _PLOT_ROWS), Text()]
    rows += [Text(row) for row in textwrap.wrap(in_words(found.suggestion), width, break_on_hyphens=False)]
    if found.train_with:
        rows += [Text(), Text(f"  {found.train_with}", "bold")]
    return rows


def _loss_axis(found: Verdict, linear: ValueAxis, num_rows: int, *, is_log: bool) -> Axis:
    lowest, highest = loss_range(found)
    if is_log and lowest > 0:
        return log_axis(math.log10(lowest), math.log10(highest))
    return linear.holding(lowest, highest, num_rows)


def _heights(losses: list[float], y: Axis, *, is_log: bool) -> list[float]:
    """Return heights on the axis `y`; a loss that explodes stays at its edge."""
    heights = [math.log10(loss) if loss > 0 else math.nan for loss in losses] if is_log else losses
    return [min(height, y.upper) for height in heights]


def _legend(found: Verdict, view: View) -> tuple[tuple[str, str], ...]:
    if not found.points:
        return ()
    sign = "━" if view.is_coloured else "⠒"
    legend = [(f"{sign} smoothed {found.smoothed[-1]:.2f}", TRAIN)]
    if view.is_coloured:
        legend.append(("━ batches", TRAIN_RANGE))
    return (*legend, ("▾ suggested", VAL)) if found.lr is not None else tuple(legend)


def _reading(found: Verdict, cursor: float) -> tuple[tuple[str, str], ...]:
    """Return the rate at the cursor, and the loss at the nearest point."""
    told = [(f"│ lr {10**cursor:.2g}", TEXT)]
    if not found.points or cursor > math.log10(found.points[-1].lr) + 0.1:
        return (*told, ("no batch trained here", MUTED))
    index = min(range(len(found.points)), key=lambda at: abs(math.log10(found.points[at].lr) - cursor))
    return (
        *told,
        (f"━ smoothed {found.smoothed[index]:.3f}", TRAIN),
        (f"━ batches {found.points[index].loss:.3f}", MUTED),
    )
