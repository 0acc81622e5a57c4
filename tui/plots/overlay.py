"""Chart of loss or accuracy of several runs over each other. Plain data; no files."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.journal.state import EpochPoint
from engine.runs.run_dir import stem_of
from tui import format as fmt
from tui.data.seed_group import Listed, MeanCurves, SeedGroup, mean_curves
from tui.data.summary import RunCurves, Summary
from tui.plots.axes import Axis, ValueAxis, epoch_axis, log_axis, trained_axis
from tui.plots.chart import Band, Chart, Line, Reference, Resolution
from tui.plots.downsample import Column, Trace
from tui.plots.metrics import Levels, Metric, published_level, train_means
from tui.text import seed_text
from tui.text.run_name import named, run_name, shared_words
from tui.theme import MUTED, TEXT

COLORS = ("#56b4e9", "#e69f00", "#2fc39a", "#d98fb9", "#f0e442", "#d5d9e0")
"""Okabe and Ito's palette, lightened for a dark ground: apart for every kind of colour vision. No more are drawn."""


NAME_WIDTH = 26
"""Columns of a name in the legend."""


@dataclass(frozen=True)
class OverlaidRun:
    """A run among those drawn."""

    id: str
    name: str
    sign: str
    """The digit that ends its curves and stands before its name: tells runs apart without colours."""
    color: str
    curves: RunCurves
    spread: MeanCurves | None = None
    """Of a group of seeds, whose mean `curves` are: one deviation below and above it."""
    result: str = ""
    """Result that stands in the legend, in place of the best epoch's accuracy."""


def overlaid_run(run: Summary, curves: RunCurves, sign: str, color: str, shared: frozenset[str]) -> OverlaidRun:
    """Return a run to be drawn; `shared` are settings of all that are drawn of its preset."""
    name = run_name(run.id, run.preset_name, run.words, NAME_WIDTH, shared)
    return OverlaidRun(run.id, name, sign, color, curves)


def overlaid_group(
    group: SeedGroup, curves: Sequence[RunCurves], sign: str, color: str, shared: frozenset[str]
) -> OverlaidRun:
    """Return the mean of a group's `curves`, to be drawn as one run; `shared` as in `overlaid_run`."""
    spread, stem = mean_curves(curves), stem_of(group.preset_name)
    name, result = (
        named(stem, stem, group.words, NAME_WIDTH, shared),
        f"{seed_text.spread(group.val)} (n {len(curves)})",
    )
    return OverlaidRun(group.id, name, sign, color, spread.mean, spread, result)


def overlaid(ids: Sequence[str], known: Mapping[str, Listed], curves: Mapping[str, RunCurves]) -> list[OverlaidRun]:
    """Return runs, and groups by the means of their members, to be drawn: at most as many as there are colours.

    Args:
        ids: of runs and groups, in order; those without curves are left out, and keep their number and colour.
        known: runs and groups by id.
        curves: of runs, by id.
    """
    rows = [known.get(row_id) for row_id in ids[: len(COLORS)]]
    shared = shared_words((row.preset_name, row.words) for row_id in ids if (row := known.get(row_id)) is not None)
    drawn = []
    for number, (row, color) in enumerate(zip(rows, COLORS, strict=False), start=1):
        if row is None:
            continue
        common, sign = shared.get(row.preset_name, frozenset()), str(number)
        if isinstance(row, SeedGroup):
            counted = [curves[run.id] for run in row.counted if run.id in curves]
            if counted:
                drawn.append(overlaid_group(row, counted, sign, color, common))
        elif row.id in curves:
            drawn.append(overlaid_run(row, curves[row.id], sign, color, common))
    return drawn


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
            val = self._line(points, self._val(points), x, resolution.num_columns, levels)
            train = self._line(points, train_means(points, self._metric), x, resolution.num_columns, levels)
            train_lines.append(Line(*train, faded(run.color), marker="·"))
            val_lines.append(Line(*val, run.color))
            if val[0]:
                ends.append(Line(val[0][-1:], val[1][-1:], run.color, marker=run.sign))
        lines = (*train_lines, *val_lines, *ends)
        bands = tuple(band for run in drawn if (band := self._band(run, x, resolution.num_columns, levels)) is not None)
        heights = [value for line in lines for value in line.ys] + ([reference.y] if reference else [])
        heights += [edge for band in bands for column in band.columns if column for edge in (column.low, column.high)]
        lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
        y = log_axis(lowest, highest) if levels.is_log else self._y.holding(lowest, highest, resolution.num_rows)
        title = "loss" if self._is_loss else "top-1 %"
        legend = (("━ val", TEXT), ("· train", MUTED))
        empty = "no epoch validated yet" if drawn else "no run here"
        return Chart(title, x, y, "epochs", lines, legend, reference, empty, bands=bands)

    def _band(self, run: OverlaidRun, x: Axis, num_columns: int, levels: Levels) -> Band | None:
        """Return one deviation below and above the validation curve of a group; None for a single run."""
        if run.spread is None:
            return None
        low, high = (
            self._line(points, self._val(points), x, num_columns, levels)
            for points in (run.spread.low, run.spread.high)
        )
        return Band(_between(low, high, x, num_columns), faded(run.color))

    def _val(self, points: Sequence[EpochPoint]) -> list[float]:
        return [getattr(point, f"val_{self._metric}") for point in points]

    def _line(
        self, points: Sequence[EpochPoint], values: Sequence[float], x: Axis, num_columns: int, levels: Levels
    ) -> tuple[list[float], list[float]]:
        """Return x and y of a value for each epoch, as heights."""
        trace = Trace(lambda pair: pair[0].epoch, lambda pair: levels.of(pair[1]))
        return trace.follow(list(zip(points, values, strict=True)), x, num_columns)


def _epochs_of(drawn: Sequence[OverlaidRun], max_ticks: int) -> Axis:
    """Return the axis that holds what was trained, and the plans of those runs that train still."""
    last = max((run.curves.epochs[-1].epoch for run in drawn if run.curves.epochs), default=0.0)
    plans = [run.curves.total_epochs for run in drawn if not run.curves.is_over]
    if drawn and not plans:
        return trained_axis(last, max_ticks)
    return epoch_axis(last, max(plans, default=1), max_ticks)


def _between(
    low: tuple[list[float], list[float]], high: tuple[list[float], list[float]], x: Axis, num_columns: int
) -> list[Column | None]:
    """Return the columns of dots from `low` to `high`, both as x and y, joined by straight lines between points."""
    columns: list[Column | None] = []
    for number in range(num_columns):
        at = x.lower + (number + 0.5) * (x.upper - x.lower) / num_columns
        bottom, top = _level(low, at), _level(high, at)
        columns.append(None if bottom is None or top is None else Column(bottom, top, (bottom + top) / 2))
    return columns


def _level(curve: tuple[list[float], list[float]], at: float) -> float | None:
    """Return the height of a curve at a place; None beside its ends."""
    xs, ys = curve
    right = bisect_left(xs, at)
    if right == len(xs) or (right == 0 and xs[0] != at):
        return None
    if xs[right] == at:
        return ys[right]
    share = (at - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])


def _common_report(drawn: Sequence[OverlaidRun]) -> Reference | None:
    """Return the published level where all runs have the same one."""
    levels = {(run.curves.report.val_top1, run.curves.report.source) for run in drawn}
    return published_level(drawn[0].curves.report) if len(levels) == 1 else None


def result_of(run: OverlaidRun) -> str:
    """Return the result in a legend: that of a group, else the validation accuracy of the best epoch."""
    best = max(run.curves.epochs, key=lambda point: point.score, default=None)
    return "no epoch yet" if best is None else run.result or fmt.percent(best.val_top1)


def lightened(color: str) -> str:
    """Return a colour half-way to white."""
    return "#" + "".join(f"{(int(color[at : at + 2], 16) + 255) // 2:02x}" for at in (1, 3, 5))


def faded(color: str) -> str:
    """Return a colour half as bright."""
    return "#" + "".join(f"{int(color[at : at + 2], 16) * 6 // 10:02x}" for at in (1, 3, 5))
