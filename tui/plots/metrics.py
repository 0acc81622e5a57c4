"""Chart of a run's loss or accuracy, in the view that the user wants: for screen, printed page and SVG."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from engine.journal.commands import Command, Continue, NextStage, Pause, Stop, kind_of
from engine.journal.events import CommandApplied, StageStarted
from engine.journal.series import Series, StepSeries, without_light
from engine.journal.state import EpochPoint, RunState
from presets.schema import Report
from tui import format as fmt
from tui.plots.axes import Axis, ValueAxis, epoch_axis, fitted_axis, log_axis, minute_axis, step_axis, trained_axis
from tui.plots.chart import Band, Chart, Line, Mark, Reference, Resolution
from tui.plots.downsample import Column, Columns, Trace, smoothed
from tui.theme import MUTED, REFERENCE, TEXT, TRAIN, TRAIN_RANGE, VAL

Metric: TypeAlias = Literal["loss", "top1"]
METRICS: tuple[Metric, ...] = ("loss", "top1")
XUnit: TypeAlias = Literal["epochs", "steps", "min"]
_FIELDS: dict[XUnit, Literal["epoch", "global_step", "time"]] = {
    "epochs": "epoch", "steps": "global_step", "min": "time",
}  # fmt: skip
_REPORTS_IN_LEGEND = 20
"""The number beside "train" is their mean, weighted by images: the same however wide the plot is."""
_RARE = 0.02
"""The share of the training curve's range, at either end, that the y axis need not hold."""
_LEAST_PERCENT = 1.0
"""The accuracy axis goes at least so far: an untrained network is not shown in millionths."""
_MARKS: dict[type[Command] | None, str] = {Stop: "stop", NextStage: "next", Pause: "pause", Continue: "go on"}
"""Of the others, a mark says what they did."""


@dataclass(frozen=True)
class View:
    """Options of a chart over training: unit of the x axis, smoothing, logarithmic loss, and what it is drawn for."""

    x: XUnit = "epochs"
    smoothing: float = 0.6
    """Weight of what was before, from 0 to below 1."""
    is_log: bool = False
    cursor: float | None = None
    """The share of the x axis at which values are read, from 0 to 1."""
    is_large: bool = False
    """The plot is zoomed: marks have room for words."""
    is_coloured: bool = True
    """Series are told apart by colour; without, the validation is points alone and no band lies beneath."""
    is_over: bool = False
    """Nothing trains the run now: the x axis ends with what was trained."""
    is_figure: bool = False
    """A figure for a report: the x axis ends with the data, and the training curve is the means of whole epochs."""

    def cursor_on(self, axis: Axis) -> float | None:
        """Return the place on an x axis at which values are read; None where none are."""
        return None if self.cursor is None else axis.lower + self.cursor * (axis.upper - axis.lower)


MONOCHROME = View(smoothing=0.0, is_coloured=False)
"""For pages without colours, where characters tell the series apart, in ASCII too."""


class Placing(NamedTuple):
    """An x axis, and how the numbers of a run come to lie on it: (number - offset) / unit."""

    axis: Axis
    field: Literal["epoch", "global_step", "time"]
    """Of StepPoint and EpochPoint."""
    offset: float
    unit: float

    def columns(self, followed: Columns, steps: StepSeries, series: Series, num_columns: int) -> list[Column | None]:
        """Return the range of a series of steps in every column of dots, which `followed` keeps between two calls."""
        axis = self.axis
        raw = Axis(self.offset + self.unit * axis.lower, self.offset + self.unit * axis.upper, axis.step)
        key = (self.field, steps.version)
        return followed.follow(getattr(steps, self.field), partial(steps.shown, series), raw, num_columns, key)

    def of(self, point: EpochPoint) -> float:
        """Return where the end of an epoch lies."""
        return (float(getattr(point, self.field)) - self.offset) / self.unit

    def of_step(self, global_step: int, state: RunState) -> float | None:
        """Return where a step lies: at the first report that holds it; None before there is one."""
        index = bisect_left(state.steps.global_step, global_step)
        if not state.steps:
            return None
        return (float(getattr(state.steps, self.field)[min(index, len(state.steps) - 1)]) - self.offset) / self.unit


class Levels(NamedTuple):
    """Scale from values to heights on the y axis."""

    factor: float
    is_log: bool

    def of(self, value: float) -> float:
        """Return the height of a value; NaN where a logarithmic axis has no place for it."""
        if self.is_log:
            return math.log10(value) if value > 0 else math.nan
        return value * self.factor

    def of_columns(self, columns: Sequence[Column | None]) -> list[Column | None]:
        """Return columns of values as columns of heights, None where a logarithmic axis has no place for them."""
        heights = [
            column and Column(self.of(column.low), self.of(column.high), self.of(column.mean), column.num_images)
            for column in columns
        ]
        return [None if column is None or math.isnan(sum(column)) else column for column in heights]

    def shown(self, height: float) -> float:
        """Return the number that belongs to a height."""
        return 10.0**height if self.is_log else height


Points: TypeAlias = tuple[list[float], list[float]]
_NONE: Points = ([], [])


class MetricChart:
    """Loss or accuracy, from batches (train) and whole epochs (val); balanced accuracy too where classes are uneven."""

    def __init__(self, metric: Metric, report: Report) -> None:
        """Make the chart of `metric`; top1 is shown in percent."""
        self._metric = metric
        self._report = report
        self._columns = Columns()
        self._y = ValueAxis()

    def chart(self, state: RunState, resolution: Resolution, view: View) -> Chart:
        """Return the chart of `state` at `resolution`."""
        is_loss = self._metric == "loss"
        levels = Levels(1.0 if is_loss else 100.0, view.is_log and is_loss)
        place = placing(state, view, resolution.max_ticks)
        dotted = not view.is_coloured or len(state.epochs) <= resolution.num_columns // 6
        steps = levels.of_columns(place.columns(self._columns, state.steps, self._metric, resolution.num_columns))
        val = self._epochs("val", state, place, resolution.num_columns, levels)
        balanced = self._balanced(state, place, resolution.num_columns, levels)
        if view.is_figure:
            train = self._epochs("train", state, place, resolution.num_columns, levels)
        else:
            train = centers(smoothed(steps, view.smoothing), place.axis)
        joined = [Line(*train, TRAIN)]
        if view.is_coloured:
            joined += [Line(*val, VAL), *([Line(*balanced, MUTED)] if balanced[0] else [])]
        reference = None if is_loss else published_level(self._report, digits=1 if view.is_figure else 0)
        heights = [*train[1], *val[1], *balanced[1], *([reference.y] if reference else [])]
        heights += without_rare(
            [height for column in steps if column is not None for height in (column.low, column.high)]
        )
        heights = [height for height in heights if math.isfinite(height)]
        cursor, legend = view.cursor_on(place.axis), self._legend(state, view)
        if cursor is not None:
            legend = self._reading(state, place, levels, steps, cursor)
        return Chart(
            title="loss" if is_loss else "top-1 %",
            x=place.axis,
            y=self._axis(heights, resolution.num_rows, levels),
            x_unit=view.x,
            lines=(*joined, *self._points(state, place, levels, *((val, balanced) if dotted else (_NONE, _NONE)))),
            legend=legend,
            reference=reference,
            empty="no batch trained yet",
            boundaries=tuple(beginnings(state.stages[1:], place, state)),
            bands=(Band(steps, TRAIN_RANGE),) if view.is_coloured else (),
            marks=tuple(marks_of(state, place, is_large=view.is_large)),
            cursor=cursor,
        )

    def _epochs(
        self, split: Literal["train", "val"], state: RunState, place: Placing, num_columns: int, levels: Levels
    ) -> Points:
        """Return x and y of the means of whole epochs."""
        values: Sequence[float] = [getattr(point, f"{split}_{self._metric}") for point in state.epochs]
        if split == "train":
            values = train_means(state.epochs, self._metric)
        trace = Trace(lambda pair: place.of(pair[0]), lambda pair: levels.of(pair[1]))
        return trace.follow(list(zip(state.epochs, values, strict=True)), place.axis, num_columns)

    def _balanced(self, state: RunState, place: Placing, num_columns: int, levels: Levels) -> Points:
        """Return x and y of the balanced accuracies: none where classes are even, nor in a chart of losses."""
        measured = [point for point in state.epochs if point.val_balanced is not None]
        if self._metric == "loss" or not measured:
            return _NONE
        return Trace(place.of, lambda point: levels.of(point.val_balanced)).follow(measured, place.axis, num_columns)

    def _val_of(self, point: EpochPoint) -> float:
        return point.val_loss if self._metric == "loss" else point.val_top1

    def _best_of(self, point: EpochPoint) -> float:
        """Return the value at which the best epoch is marked: on the curve that decided which it is."""
        return point.val_loss if self._metric == "loss" else point.score

    def _axis(self, heights: list[float], num_rows: int, levels: Levels) -> Axis:
        lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
        if levels.is_log:
            return log_axis(lowest, highest)
        if self._metric == "loss":
            return self._y.holding(lowest, highest, num_rows)
        return self._y.holding(0.0, max(_LEAST_PERCENT, highest), num_rows)

    def _points(self, state: RunState, place: Placing, levels: Levels, val: Points, balanced: Points) -> list[Line]:
        """Return what is marked on the curves: epochs, validations asked for, and the best epoch."""
        lines = [Line(*balanced, MUTED, marker="▪")] if balanced[0] else []
        lines += [Line(*val, VAL, marker="•")] if val[0] else []
        if state.validations:
            asked = [(place.of_step(each.global_step, state), each) for each in state.validations]
            points = [(x, each.loss if self._metric == "loss" else each.top1) for x, each in asked if x is not None]
            lines.append(Line([x for x, _ in points], [levels.of(value) for _, value in points], VAL, marker="○"))
        if state.best is not None:
            lines.append(Line([place.of(state.best)], [levels.of(self._best_of(state.best))], TEXT, marker="◆"))
        return lines

    def _legend(self, state: RunState, view: View) -> tuple[tuple[str, str], ...]:
        """Return the series and their latest values; in a figure, the best value alone."""
        legend = []
        joined = "━" if view.is_coloured else "⠒"
        latest = self._latest(state.steps)
        if latest is not None:
            now = "" if view.is_figure else f" {self._said(latest)}"
            legend.append((f"{joined} train{now}", TRAIN))
        if state.epochs:
            now = "" if view.is_figure else f" {self._said(self._val_of(state.epochs[-1]))}"
            legend.append((f"• val{now}", VAL))
            legend += self._balanced_legend(state.epochs[-1], "" if view.is_figure else " {}")
        if state.best is not None:
            level = f" {self._said(self._best_of(state.best), digits=2)}" if view.is_figure else ""
            legend.append((f"◆ best{level}", TEXT))
        if state.marks and not view.is_figure:  # there every mark has its word
            legend.append(("▾ steered", TEXT))
        return tuple(legend)

    def _latest(self, steps: StepSeries) -> float | None:
        """Return the mean of the latest reports; None where none is a finite number."""
        values, num_images = (getattr(steps, column)[-_REPORTS_IN_LEGEND:] for column in (self._metric, "num_images"))
        finite = [pair for pair in zip(values, num_images, strict=True) if math.isfinite(pair[0])]
        return sum(value * number for value, number in finite) / sum(number for _, number in finite) if finite else None

    def _balanced_legend(self, point: EpochPoint, form: str) -> list[tuple[str, str]]:
        if self._metric == "loss" or point.val_balanced is None:
            return []
        return [(f"▪ balanced{form.format(self._said(point.val_balanced))}", MUTED)]

    def _said(self, value: float, digits: int = 1) -> str:
        return f"{value:.2f}" if self._metric == "loss" else f"{100 * value:.{digits}f}"

    def _reading(
        self, state: RunState, place: Placing, levels: Levels, steps: Sequence[Column | None], cursor: float
    ) -> tuple[tuple[str, str], ...]:
        """Return what the curves are at the cursor: the column's mean and range, and the nearest epoch.

        Between columns with reports it is a straight line from mean to mean, as the curve is drawn.
        """
        axis = place.axis
        told = [cursor_text(axis, cursor)]
        column = value_at(steps, axis, cursor)
        digits = 3 if self._metric == "loss" else 1
        if column is None:
            told.append(("no batch trained here", MUTED))
        elif not isinstance(column, Column):
            told.append((f"━ train {levels.shown(column):.{digits}f} (interpolated)", TRAIN))
        else:
            low, high, mean = (f"{levels.shown(height):.{digits}f}" for height in column[:3])
            told.append((f"━ train {mean} ({low} to {high})", TRAIN))
        if state.epochs:
            point = min(state.epochs, key=lambda point: abs(place.of(point) - cursor))
            told.append((f"• val {self._said(self._val_of(point))} (epoch {point.number})", VAL))
            told += self._balanced_legend(point, " {}")
        return tuple(told)


def train_means(points: Sequence[EpochPoint], metric: Metric) -> list[float]:
    """Return the training means of epochs; one that ended before its half is merged with the epoch before."""
    trained = [point.epoch - (point.number - 1) for point in points]
    return without_light([getattr(point, f"train_{metric}") for point in points], trained)


def cursor_text(axis: Axis, cursor: float) -> tuple[str, str]:
    """Return the place on the x axis where values are read, for a legend."""
    at = f"{cursor:,.0f}" if axis.upper >= 1000 else f"{cursor:.2f}"
    return f"│ {at}", TEXT


def value_at(columns: Sequence[Column | None], axis: Axis, place: float) -> Column | float | None:
    """Return the column at a place, or beside it; between columns the interpolated mean; None where no curve runs."""
    at = round((place - axis.lower) / (axis.upper - axis.lower) * (len(columns) - 1))
    left = next((number for number in range(at, -1, -1) if columns[number] is not None), None)
    right = next((number for number in range(at, len(columns)) if columns[number] is not None), None)
    if left is None or right is None:
        near = [number for number in (left, right) if number is not None and abs(number - at) <= 1]
        return columns[near[0]] if near else None
    before, behind = columns[left], columns[right]
    assert before is not None
    assert behind is not None
    if left == right:
        return before
    return before.mean + (behind.mean - before.mean) * (at - left) / (right - left)


def placing(state: RunState, view: View, max_ticks: int) -> Placing:
    """Return the x axis that holds what was trained so far.

    It shows a part of what is planned, unless the run is over or it is a figure's.
    """
    is_over = view.is_over or state.is_finished
    field = _FIELDS[view.x]
    now = max(
        float(getattr(state.steps, field)[-1]) if state.steps else 0.0,
        float(getattr(state.epochs[-1], field)) if state.epochs else 0.0,
    )
    if view.x == "min":
        start = state.first_started_time or now
        if is_over:
            return Placing(fitted_axis((now - start) / 60, max_ticks), field, start, 60.0)
        return Placing(minute_axis(0.0, (now - start) / 60, max_ticks), field, start, 60.0)
    if view.x == "steps":
        if is_over:
            return Placing(fitted_axis(now, max_ticks), field, 0.0, 1.0)
        total = state.total_epochs * (state.stage.steps_per_epoch if state.stage else 0)
        return Placing(step_axis(now, total, max_ticks), field, 0.0, 1.0)
    if view.is_figure:
        return Placing(fitted_axis(now, max_ticks), field, 0.0, 1.0)
    if is_over:
        return Placing(trained_axis(now, max_ticks), field, 0.0, 1.0)
    return Placing(epoch_axis(now, state.total_epochs, max_ticks), field, 0.0, 1.0)


def centers(heights: Sequence[float | None], axis: Axis) -> Points:
    """Return x and y of what there is, each in the middle of its column."""
    width = (axis.upper - axis.lower) / len(heights)
    points = [(axis.lower + (number + 0.5) * width, height) for number, height in enumerate(heights)]
    return [x for x, height in points if height is not None], [height for _, height in points if height is not None]


def without_rare(heights: list[float]) -> list[float]:
    """Return heights without the few that lie far out: they are drawn to the edge, and do not squeeze the rest."""
    rare = int(_RARE * len(heights))
    return sorted(heights)[rare : len(heights) - rare]


def published_level(report: Report, digits: int = 0) -> Reference | None:
    """Return the line at the validation accuracy of a `[report]` table, if it has one."""
    if report.val_top1 is None:
        return None
    return Reference(100 * report.val_top1, f"{report.source} {fmt.percent(report.val_top1, digits)}", REFERENCE)


def beginnings(stages: Sequence[StageStarted], place: Placing, state: RunState) -> list[float]:
    """Return where stages began."""
    if place.field == "epoch":
        return [float(stage.first_epoch - 1) for stage in stages]
    before = [[point for point in state.epochs if point.number < stage.first_epoch] for stage in stages]
    ends = [points[-1] if points else None for points in before]
    return [place.of(end) for end in ends if end is not None]


def marks_of(state: RunState, place: Placing, *, is_large: bool) -> list[Mark]:
    """Return a mark for every command that changed how training went on, where it took effect."""
    marks = []
    for applied in state.marks:
        x = place.of_step(applied.global_step, state)
        if x is not None:
            marks.append(Mark(x, f"▾{_mark_text(applied) if is_large else ''}", TEXT))
    return marks


def _mark_text(applied: CommandApplied) -> str:
    return _MARKS.get(kind_of(applied.command), applied.effect)
