"""Chart of the learning rate or of the gradient's norm over training, as steps report them."""

import math
from typing import Literal, TypeAlias

from engine.journal.state import RunState
from tui import format as fmt
from tui.plots.axes import Axis, ValueAxis, log_axis
from tui.plots.chart import Band, Chart, Line, Reference, Resolution
from tui.plots.downsample import Column, Columns, smoothed
from tui.plots.metrics import (
    Levels,
    Placing,
    View,
    beginnings,
    centers,
    cursor_text,
    marks_of,
    placing,
    value_at,
    without_rare,
)
from tui.theme import MUTED, REFERENCE, TRAIN, TRAIN_RANGE

StepValue: TypeAlias = Literal["lr", "grad_norm"]
_TITLES: dict[StepValue, str] = {"lr": "learning rate", "grad_norm": "gradient norm"}
_REPORTS_IN_LEGEND = 20
"""The numbers in the legend are their means: of one report alone they scatter."""
_FAR = 2.0
"""A norm to clip at is drawn where the axis need not be more than so many times as long for it."""


class StepChart:
    """Learning rate, or norm of the gradient before it is clipped, by steps."""

    def __init__(self, value: StepValue, clip_norm: float = 0.0) -> None:
        """Make the chart of `value`; gradients are clipped at `clip_norm`, or never if it is 0."""
        self._value: StepValue = value
        self._clip_norm = clip_norm if value == "grad_norm" else 0.0
        self._columns = Columns()
        self._y = ValueAxis()

    def chart(self, state: RunState, resolution: Resolution, view: View) -> Chart:
        """Return the chart of `state` at `resolution`; the rate is drawn as it is, the norm smoothed."""
        is_rate = self._value == "lr"
        levels = Levels(1.0, view.is_log and not is_rate)
        place = placing(state, view, resolution.max_ticks)
        steps = levels.of_columns(place.columns(self._columns, state.steps, self._value, resolution.num_columns))
        line = centers(smoothed(steps, 0.0 if is_rate else view.smoothing), place.axis)
        ranges = [height for column in steps if column is not None for height in (column.low, column.high)]
        heights = [height for height in (*line[1], *without_rare(ranges)) if math.isfinite(height)]
        reference = self._reference(heights, levels)
        cursor, legend = view.cursor_on(place.axis), self._legend(state, view)
        if cursor is not None:
            legend = self._reading(place, levels, steps, cursor)
        return Chart(
            title=_TITLES[self._value],
            x=place.axis,
            y=self._axis([*heights, *([reference.y] if reference else [])], resolution.num_rows, levels),
            x_unit=view.x,
            lines=(Line(*line, TRAIN),),
            legend=legend,
            reference=reference,
            empty="an earlier version wrote this journal, without it" if state.steps else "no batch trained yet",
            boundaries=tuple(beginnings(state.stages[1:], place, state)),
            bands=(Band(steps, TRAIN_RANGE),) if view.is_coloured and not is_rate else (),
            marks=tuple(marks_of(state, place, is_large=view.is_large)),
            cursor=cursor,
        )

    def _reference(self, heights: list[float], levels: Levels) -> Reference | None:
        if not self._clip_norm or not heights or self._clip_norm > _FAR * levels.shown(max(heights)):
            return None
        return Reference(levels.of(self._clip_norm), f"clip_norm {self._clip_norm:g}", REFERENCE)

    def _axis(self, heights: list[float], num_rows: int, levels: Levels) -> Axis:
        lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
        return log_axis(lowest, highest) if levels.is_log else self._y.holding(0.0, highest, num_rows)

    def _legend(self, state: RunState, view: View) -> tuple[tuple[str, str], ...]:
        """Return the latest value, and how many of the latest batches were clipped."""
        steps = state.steps
        values = [value for value in getattr(steps, self._value)[-_REPORTS_IN_LEGEND:] if math.isfinite(value)]
        if not values:
            return ()
        joined = "━" if view.is_coloured else "⠒"
        now = values[-1] if self._value == "lr" else sum(values) / len(values)
        legend = [(f"{joined} {now:.3g}", TRAIN)]
        if self._clip_norm:
            share = fmt.percent(steps.share_clipped(_REPORTS_IN_LEGEND), 0)
            legend.append((f"{share} of batches clipped", MUTED))
        return tuple(legend)

    def _reading(
        self, place: Placing, levels: Levels, steps: list[Column | None], cursor: float
    ) -> tuple[tuple[str, str], ...]:
        """Return the value at the cursor: the column's mean and range, or what lies between two columns."""
        told = [cursor_text(place.axis, cursor)]
        column = value_at(steps, place.axis, cursor)
        if column is None:
            told.append(("no batch trained here", MUTED))
        elif not isinstance(column, Column):
            told.append((f"━ {levels.shown(column):.3g} (interpolated)", TRAIN))
        else:
            low, high, mean = (f"{levels.shown(height):.3g}" for height in column[:3])
            told.append((f"━ {mean}" if low == high else f"━ {mean} ({low} to {high})", TRAIN))
        return tuple(told)
