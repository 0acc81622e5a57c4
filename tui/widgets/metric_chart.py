"""From a run's state to the chart of its loss or accuracy, in the view that the user wants. Draws nothing itself."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple, TypeAlias

from engine.journal.events import CommandApplied, StageStarted
from engine.journal.state import EpochPoint, RunState
from presets.schema import Report
from tui import format as fmt
from tui.theme import MUTED, REFERENCE, TEXT, TRAIN, TRAIN_RANGE, VAL
from tui.widgets.axes import Axis, ValueAxis, epoch_axis, log_axis, minute_axis, step_axis
from tui.widgets.plot import Band, Chart, Line, Mark, Plot, Reference
from tui.widgets.trace import Column, Columns, Trace, smoothed

XUnit: TypeAlias = Literal["epochs", "steps", "min"]
_FIELDS: dict[XUnit, Literal["epoch", "global_step", "time"]] = {
    "epochs": "epoch", "steps": "global_step", "min": "time",
}  # fmt: skip
_REPORTS_IN_LEGEND = 20
"""The number beside "train" is their mean: the same however wide the plot is."""
_RARE = 0.02
"""The share of the training curve's range, at either end, that the y axis need not hold."""
_LEAST_PERCENT = 1.0
"""The accuracy axis goes at least so far: an untrained network is not shown in millionths."""
_MARKS = {"Stop": "stop", "NextStage": "next", "Pause": "pause", "Continue": "go on"}


@dataclass(frozen=True)
class View:
    """How the user wants the curves: what the x axis counts, how much is smoothed, whether the loss is logarithmic."""

    x: XUnit = "epochs"
    smoothing: float = 0.6
    """Weight of what was before, from 0 to below 1."""
    is_log: bool = False
    cursor: float | None = None
    """The share of the x axis at which values are read, from 0 to 1."""
    is_large: bool = False
    """Whether there is room to say what a mark stands for."""


class _Placing(NamedTuple):
    """An x axis, and how the numbers of a run come to lie on it: (number - offset) / unit."""

    axis: Axis
    field: Literal["epoch", "global_step", "time"]
    """Of StepPoint and EpochPoint."""
    offset: float
    unit: float

    def of(self, point: EpochPoint) -> float:
        return (float(getattr(point, self.field)) - self.offset) / self.unit

    def of_step(self, global_step: int, state: RunState) -> float | None:
        """Return where a step lies: at the first report that holds it; None before there is one."""
        index = bisect_left(state.steps.global_step, global_step)
        if not state.steps:
            return None
        return (float(getattr(state.steps, self.field)[min(index, len(state.steps) - 1)]) - self.offset) / self.unit


class _Levels(NamedTuple):
    """How values become heights on the y axis."""

    factor: float
    is_log: bool

    def of(self, value: float) -> float:
        """Return the height of a value; NaN where a logarithmic axis has no place for it."""
        if self.is_log:
            return math.log10(value) if value > 0 else math.nan
        return value * self.factor

    def shown(self, height: float) -> float:
        """Return the number that belongs to a height."""
        return 10.0**height if self.is_log else height


_Points: TypeAlias = tuple[list[float], list[float]]


class MetricChart:
    """Loss or accuracy, from batches (train) and whole epochs (val)."""

    def __init__(self, metric: Literal["loss", "top1"], report: Report) -> None:
        """Make the chart of `metric`; top1 is shown in percent."""
        self._metric = metric
        self._report = report
        self._columns = Columns()
        self._y = ValueAxis()

    def chart(self, state: RunState, plot: Plot, view: View) -> Chart:
        """Return the chart of `state` at the resolution of `plot`."""
        is_loss = self._metric == "loss"
        levels = _Levels(1.0 if is_loss else 100.0, view.is_log and is_loss)
        place = _placing(state, view.x, plot.max_ticks)
        train = self._train(state, place, plot.num_columns, levels)
        smooth = _centers(smoothed(train, view.smoothing), place.axis)
        val = self._val(state, place, plot.num_columns, levels)
        reference = None if is_loss else published_level(self._report)
        heights = [*smooth[1], *val[1], *([reference.y] if reference else [])]
        heights += _without_rare(
            [height for column in train if column is not None for height in (column.low, column.high)]
        )
        heights = [height for height in heights if math.isfinite(height)]
        cursor, legend = None, self._legend(state)
        if view.cursor is not None:
            cursor = place.axis.lower + view.cursor * (place.axis.upper - place.axis.lower)
            legend = self._reading(state, place, levels, train, cursor)
        return Chart(
            title="loss" if is_loss else "top-1 %",
            x=place.axis,
            y=self._axis(heights, plot.num_rows, levels),
            x_unit=view.x,
            lines=self._lines(state, place, levels, smooth, val, dotted=len(state.epochs) <= plot.num_columns // 6),
            legend=legend,
            reference=reference,
            empty="no batch trained yet",
            boundaries=tuple(_beginnings(state.stages[1:], place, state)),
            bands=(Band(train, TRAIN_RANGE),),
            marks=tuple(_marks(state, place, is_large=view.is_large)),
            cursor=cursor,
        )

    def _train(self, state: RunState, place: _Placing, num_columns: int, levels: _Levels) -> list[Column | None]:
        """Return the range of the training curve in every column of dots, as heights."""
        steps, axis = state.steps, place.axis
        raw = Axis(place.offset + place.unit * axis.lower, place.offset + place.unit * axis.upper, axis.step)
        places, values = getattr(steps, place.field), getattr(steps, self._metric)
        columns = self._columns.follow(places, values, raw, num_columns, (place.field, steps.version))
        heights = [None if column is None else Column(*map(levels.of, column)) for column in columns]
        return [None if column is None or math.isnan(sum(column)) else column for column in heights]

    def _val(self, state: RunState, place: _Placing, num_columns: int, levels: _Levels) -> _Points:
        trace = Trace(place.of, lambda point: levels.of(self._val_of(point)))
        return trace.follow(state.epochs, place.axis, num_columns)

    def _val_of(self, point: EpochPoint) -> float:
        return point.val_loss if self._metric == "loss" else point.val_top1

    def _axis(self, heights: list[float], num_rows: int, levels: _Levels) -> Axis:
        lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
        if levels.is_log:
            return log_axis(lowest, highest)
        if self._metric == "loss":
            return self._y.holding(lowest, highest, num_rows)
        return self._y.holding(0.0, max(_LEAST_PERCENT, highest), num_rows)

    def _lines(
        self, state: RunState, place: _Placing, levels: _Levels, smooth: _Points, val: _Points, *, dotted: bool
    ) -> tuple[Line, ...]:
        lines = [Line(*smooth, TRAIN), Line(*val, VAL)]
        if dotted:
            lines.append(Line(*val, VAL, marker="•"))
        if state.validations:
            asked = [(place.of_step(each.global_step, state), each) for each in state.validations]
            points = [(x, each.loss if self._metric == "loss" else each.top1) for x, each in asked if x is not None]
            lines.append(Line([x for x, _ in points], [levels.of(value) for _, value in points], VAL, marker="○"))
        if state.best is not None:
            lines.append(Line([place.of(state.best)], [levels.of(self._val_of(state.best))], TEXT, marker="◆"))
        return tuple(lines)

    def _legend(self, state: RunState) -> tuple[tuple[str, str], ...]:
        legend = []
        latest = [value for value in getattr(state.steps, self._metric)[-_REPORTS_IN_LEGEND:] if math.isfinite(value)]
        if latest:
            legend.append((f"━ train {self._said(fmean(latest))}", TRAIN))
        if state.epochs:
            legend.append((f"• val {self._said(self._val_of(state.epochs[-1]))}", VAL))
        if state.best is not None:
            legend.append(("◆ best", TEXT))
        if state.marks:
            legend.append(("▾ steered", TEXT))
        return tuple(legend)

    def _said(self, value: float) -> str:
        return f"{value:.2f}" if self._metric == "loss" else f"{100 * value:.1f}"

    def _reading(
        self, state: RunState, place: _Placing, levels: _Levels, train: Sequence[Column | None], cursor: float
    ) -> tuple[tuple[str, str], ...]:
        """Return what the curves are at the cursor: the column's mean and range, and the nearest epoch."""
        axis = place.axis
        at = f"{cursor:,.0f}" if axis.upper >= 1000 else f"{cursor:.2f}"
        told = [(f"│ {at}", TEXT)]
        share = (cursor - axis.lower) / (axis.upper - axis.lower)
        column = train[min(len(train) - 1, int(share * len(train)))]
        digits = 3 if self._metric == "loss" else 1
        if column is None:
            told.append(("no batch trained here", MUTED))
        else:
            low, high, mean = (f"{levels.shown(height):.{digits}f}" for height in column)
            told.append((f"━ train {mean} ({low} to {high})", TRAIN))
        if state.epochs:
            point = min(state.epochs, key=lambda point: abs(place.of(point) - cursor))
            told.append((f"• val {self._said(self._val_of(point))} (epoch {point.number})", VAL))
        return tuple(told)


def _placing(state: RunState, unit: XUnit, max_ticks: int) -> _Placing:
    """Return the x axis that holds what was trained so far, and a part of what is planned."""
    field = _FIELDS[unit]
    now = max(
        float(getattr(state.steps, field)[-1]) if state.steps else 0.0,
        float(getattr(state.epochs[-1], field)) if state.epochs else 0.0,
    )
    if unit == "min":
        start = state.first_started_time or now
        return _Placing(minute_axis(0.0, (now - start) / 60, max_ticks), field, start, 60.0)
    if unit == "steps":
        total = state.total_epochs * (state.stage.steps_per_epoch if state.stage else 0)
        return _Placing(step_axis(now, total, max_ticks), field, 0.0, 1.0)
    return _Placing(epoch_axis(now, state.total_epochs, max_ticks), field, 0.0, 1.0)


def _centers(heights: Sequence[float | None], axis: Axis) -> _Points:
    """Return x and y of what there is, each in the middle of its column."""
    width = (axis.upper - axis.lower) / len(heights)
    points = [(axis.lower + (number + 0.5) * width, height) for number, height in enumerate(heights)]
    return [x for x, height in points if height is not None], [height for _, height in points if height is not None]


def _without_rare(heights: list[float]) -> list[float]:
    """Return heights without the few that lie far out: they are drawn to the edge, and do not squeeze the rest."""
    rare = int(_RARE * len(heights))
    return sorted(heights)[rare : len(heights) - rare]


def published_level(report: Report) -> Reference | None:
    """Return the line at the validation accuracy of a `[report]` table, if it has one."""
    if report.val_top1 is None:
        return None
    return Reference(100 * report.val_top1, f"{report.source} {fmt.percent(report.val_top1, 0)}", REFERENCE)


def _beginnings(stages: Sequence[StageStarted], place: _Placing, state: RunState) -> list[float]:
    """Return where stages began."""
    if place.field == "epoch":
        return [float(stage.first_epoch - 1) for stage in stages]
    before = [[point for point in state.epochs if point.number < stage.first_epoch] for stage in stages]
    ends = [points[-1] if points else None for points in before]
    return [place.of(end) for end in ends if end is not None]


def _marks(state: RunState, place: _Placing, *, is_large: bool) -> list[Mark]:
    """Return a mark for every command that changed how training went on, where it took effect."""
    marks = []
    for applied in state.marks:
        x = place.of_step(applied.global_step, state)
        if x is not None:
            marks.append(Mark(x, f"▾{_mark_text(applied) if is_large else ''}", TEXT))
    return marks


def _mark_text(applied: CommandApplied) -> str:
    return _MARKS.get(applied.command) or applied.effect
