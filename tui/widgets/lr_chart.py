"""From a range test's state to the chart of its loss over the learning rate. Draws nothing itself."""

import math

from engine.journal.state import RunState
from presets.schema import Preset
from tui.data.range_test import Verdict, loss_range, verdict
from tui.theme import MUTED, TEXT, TRAIN, TRAIN_RANGE, VAL
from tui.widgets.axes import Axis, ValueAxis, log_axis, lr_axis
from tui.widgets.metric_chart import View
from tui.widgets.plot import Chart, Line, Mark, Plot


class LrChart:
    """The loss of batches, and that smoothed, over the learning rate; the suggestion is marked."""

    def __init__(self, preset: Preset) -> None:
        """Make the chart of the range test that `preset` is."""
        self._preset = preset
        self._y = ValueAxis()

    def chart(self, state: RunState, plot: Plot, view: View) -> Chart:
        """Return the chart of `state` at the resolution of `plot`."""
        found = verdict(self._preset, state)
        assert found is not None
        x = lr_axis(math.log10(found.first_lr), math.log10(found.last_lr))
        cursor = None if view.cursor is None else x.lower + view.cursor * (x.upper - x.lower)
        y = self._axis(found, plot.num_rows, is_log=view.is_log)
        places = [math.log10(point.lr) for point in found.points]
        losses = [point.loss for point in found.points]
        return Chart(
            title="loss",
            x=x,
            y=y,
            x_unit="lr",
            lines=(
                Line(places, _heights(losses, y, is_log=view.is_log), TRAIN_RANGE),
                Line(places, _heights(found.smoothed, y, is_log=view.is_log), TRAIN),
            ),
            legend=_legend(found) if cursor is None else _reading(found, cursor),
            empty="no batch trained yet",
            boundaries=() if found.lr is None else (math.log10(found.lr),),
            marks=() if found.lr is None else (Mark(math.log10(found.lr), f"▾ {found.lr:g}", VAL),),
            cursor=cursor,
        )

    def _axis(self, found: Verdict, num_rows: int, *, is_log: bool) -> Axis:
        lowest, highest = loss_range(found)
        if is_log and lowest > 0:
            return log_axis(math.log10(lowest), math.log10(highest))
        return self._y.holding(lowest, highest, num_rows)


def _heights(losses: list[float], y: Axis, *, is_log: bool) -> list[float]:
    """Return heights on the axis `y`; a loss that explodes stays at its edge."""
    heights = [math.log10(loss) if loss > 0 else math.nan for loss in losses] if is_log else losses
    return [min(height, y.upper) for height in heights]


def _legend(found: Verdict) -> tuple[tuple[str, str], ...]:
    if not found.points:
        return ()
    legend = [(f"━ smoothed {found.smoothed[-1]:.2f}", TRAIN), ("━ batches", TRAIN_RANGE)]
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
