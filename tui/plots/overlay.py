"""Chart of loss or accuracy of several runs over each other. Plain data; no files."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.journal.state import EpochPoint
from tui.data.summary import RunCurves
from tui.plots.axes import Axis, ValueAxis, epoch_axis, log_axis, trained_axis
from tui.plots.chart import Chart, Line, Reference, Resolution
from tui.plots.downsample import Trace
from tui.plots.metrics import Levels, Metric, published_level, train_means
from tui.theme import MUTED, TEXT

COLORS = ("#56b4e9", "#e69f00", "#2fc39a", "#d98fb9", "#f0e442", "#d5d9e0")
"""Okabe and Ito's palette, lightened for a dark ground: apart for every kind of colour vision. No more are drawn."""


@dataclass(frozen=True)
class OverlaidRun:
    """A run among those drawn."""

    id: str
    name: str
    sign: str
    """The digit that ends its curves and stands before its name: tells runs apart without colours."""
    color: str
    curves: RunCurves


class OverlayChart:
    """Loss or accuracy of several runs: validation as lines, training as faint dots."""

    def __init__(self, metric: Metric) -> None:
        """Make the chart of `metric`; top1 is shown in percent."""
        self._is_loss = metric == "loss"
        self._metric: Metric = metric
        self._y = ValueAxis()
        self._ids: tuple[str, ...] = ()

    def chart(self, drawn: Sequence[OverlaidRun], resolution: Resolution, *, is_log: bool = False) -> Chart:
        """Return the chart of `drawn` at `resolution`; `is_log` puts losses on a logarithmic axis."""
        levels = Levels(1.0 if self._is_loss else 100.0, is_log and self._is_loss)
        ids = tuple(run.id for run in drawn)
        if ids != self._ids:  # another comparison: its axis need not keep still
            self._ids, self._y = ids, ValueAxis()
        x = _epochs_of(drawn, resolution.max_ticks)
        reference = None if self._is_loss else _common_report(drawn)
        train_lines, val_lines, ends = [], [], []
        for run in drawn:
            points = run.curves.epochs
            val = self._line(points, [getattr(point, f"val_{self._metric}") for point in points], x, resolution, levels)
            train = self._line(points, train_means(points, self._metric), x, resolution, levels)
            train_lines.append(Line(*train, _faded(run.color), marker="·"))
            val_lines.append(Line(*val, run.color))
            if val[0]:
                ends.append(Line(val[0][-1:], val[1][-1:], run.color, marker=run.sign))
        lines = (*train_lines, *val_lines, *ends)
        heights = [value for line in lines for value in line.ys] + ([reference.y] if reference else [])
        lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
        y = log_axis(lowest, highest) if levels.is_log else self._y.holding(lowest, highest, resolution.num_rows)
        title = "loss" if self._is_loss else "top-1 %"
        legend = (("━ val", TEXT), ("· train", MUTED))
        empty = "no epoch validated yet" if drawn else "no run here"
        return Chart(title, x, y, "epochs", lines, legend, reference, empty)


    def _line(
        self, points: Sequence[EpochPoint], values: Sequence[float], x: Axis, resolution: Resolution, levels: Levels
    ) -> tuple[list[float], list[float]]:
        """Return x and y of a value for each epoch, as heights."""
        trace = Trace(lambda pair: pair[0].epoch, lambda pair: levels.of(pair[1]))
        return trace.follow(list(zip(points, values, strict=True)), x, resolution.num_columns)


def _epochs_of(drawn: Sequence[OverlaidRun], max_ticks: int) -> Axis:
    """Return the axis that holds what was trained, and the plans of those runs that train still."""
    last = max((run.curves.epochs[-1].epoch for run in drawn if run.curves.epochs), default=0.0)
    plans = [run.curves.total_epochs for run in drawn if not run.curves.is_over]
    if drawn and not plans:
        return trained_axis(last, max_ticks)
    return epoch_axis(last, max(plans, default=1), max_ticks)


def _common_report(drawn: Sequence[OverlaidRun]) -> Reference | None:
    """Return the published level where all runs have the same one."""
    levels = {(run.curves.report.val_top1, run.curves.report.source) for run in drawn}
    return published_level(drawn[0].curves.report) if len(levels) == 1 else None


def _faded(color: str) -> str:
    """Return a colour half as bright."""
    return "#" + "".join(f"{int(color[at : at + 2], 16) * 6 // 10:02x}" for at in (1, 3, 5))
