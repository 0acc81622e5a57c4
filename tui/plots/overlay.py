"""Chart of loss or accuracy of several runs over each other. Plain data; no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from tui.data.summary import RunCurves
from tui.plots.axes import ValueAxis, epoch_axis
from tui.plots.chart import Chart, Line, Reference, Resolution
from tui.plots.downsample import Trace
from tui.plots.metrics import Metric, published_level
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
        self._val, self._train = (
            _trace(f"{part}_{metric}", 1.0 if self._is_loss else 100.0) for part in ("val", "train")
        )
        self._y = ValueAxis()
        self._ids: tuple[str, ...] = ()

    def chart(self, drawn: Sequence[OverlaidRun], resolution: Resolution) -> Chart:
        """Return the chart of `drawn` at `resolution`."""
        ids = tuple(run.id for run in drawn)
        if ids != self._ids:  # another comparison: its axis need not keep still
            self._ids, self._y = ids, ValueAxis()
        points = [run.curves.epochs for run in drawn]
        last = max((each[-1].epoch for each in points if each), default=0.0)
        total = max((run.curves.total_epochs for run in drawn), default=1)
        x = epoch_axis(last, total, resolution.max_ticks)
        reference = None if self._is_loss else _common_report(drawn)
        train_lines, val_lines, ends = [], [], []
        for run in drawn:
            val = self._val.follow(run.curves.epochs, x, resolution.num_columns)
            train = self._train.follow(run.curves.epochs, x, resolution.num_columns)
            train_lines.append(Line(*train, _faded(run.color), marker="·"))
            val_lines.append(Line(*val, run.color))
            if val[0]:
                ends.append(Line(val[0][-1:], val[1][-1:], run.color, marker=run.sign))
        lines = (*train_lines, *val_lines, *ends)
        levels = [value for line in lines for value in line.ys] + ([reference.y] if reference else [])
        y = self._y.holding(min(levels, default=0.0), max(levels, default=1.0), resolution.num_rows)
        title = "loss" if self._is_loss else "top-1 %"
        legend = (("━ val", TEXT), ("· train", MUTED))
        empty = "no epoch validated yet" if drawn else "no run here"
        return Chart(title, x, y, "epochs", lines, legend, reference, empty)


def _trace(field: str, scale: float) -> Trace:
    """Return the trace of a field of EpochPoint over epochs, multiplied by `scale`."""
    return Trace(attrgetter("epoch"), lambda point: scale * getattr(point, field))


def _common_report(drawn: Sequence[OverlaidRun]) -> Reference | None:
    """Return the published level where all runs have the same one."""
    levels = {(run.curves.report.val_top1, run.curves.report.source) for run in drawn}
    return published_level(drawn[0].curves.report) if len(levels) == 1 else None


def _faded(color: str) -> str:
    """Return a colour half as bright."""
    return "#" + "".join(f"{int(color[at : at + 2], 16) * 6 // 10:02x}" for at in (1, 3, 5))
