"""Axis limits that move in steps, so that a plot keeps still while its data grow. Plain numbers only."""

import math
from dataclasses import dataclass, replace

_KEPT_WHILE_FILLED = 0.35
_WASTE_ALLOWED = 1.3
_LEAST_SPAN = 0.02
"""Of the values themselves: what hardly moves is not blown up until its noise fills the plot."""
_ROOM_TO_GROW = 0.5
_TOTAL_SHOWN_FROM_THE_START = 20


@dataclass(frozen=True)
class Axis:
    """A range with a tick at every multiple of `step`; of a logarithmic one, all three are powers of ten."""

    lower: float
    upper: float
    step: float
    is_log: bool = False

    def ticks(self) -> list[float]:
        """Return the tick positions inside the range, lowest first."""
        if self.is_log:
            return [tick for tick in _log_ticks(self.lower, self.upper) if self.lower <= tick <= self.upper]
        first = math.ceil(self.lower / self.step - 1e-9)
        last = math.floor(self.upper / self.step + 1e-9)
        return [number * self.step for number in range(first, last + 1)]

    def labels(self) -> list[str]:
        """Return the ticks as text, all with as many decimals as the step needs."""
        if self.is_log:
            return [f"{10**tick:.4g}" for tick in self.ticks()]
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return [f"{tick:.{digits}f}" for tick in self.ticks()]


def round_step(span: float, max_ticks: int) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that cuts `span` into at most `max_ticks`."""
    rough = max(span, 1e-9) / max(1, max_ticks)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _log_ticks(lower: float, upper: float) -> list[float]:
    """Return the logarithms of 1, 2 and 5 times the powers of ten from below `lower` to above `upper`."""
    decades = range(math.floor(lower + 1e-9), math.ceil(upper - 1e-9) + 1)
    return [decade + math.log10(factor) for decade in decades for factor in (1, 2, 5)]


def log_axis(lower: float, upper: float) -> Axis:
    """Return the axis between the ticks around `lower` and `upper`, which are logarithms: it moves by whole ticks."""
    ticks = _log_ticks(lower, upper)
    start = max(tick for tick in ticks if tick <= lower + 1e-9)
    end = min((tick for tick in ticks if tick >= upper - 1e-9 and tick > start), default=start + 1)
    return Axis(start, end, 1.0, is_log=True)


@dataclass(frozen=True)
class _DecadeAxis(Axis):
    """Logarithms, with a tick at every power of ten: 1e-5, 0.001, 10."""

    def labels(self) -> list[str]:
        """Return the powers of ten themselves."""
        exponents = [round(tick) for tick in self.ticks()]
        return [f"{10.0**exponent:g}" if abs(exponent) <= 3 else f"1e{exponent}" for exponent in exponents]


def lr_axis(lower: float, upper: float) -> Axis:
    """Return the axis of learning rates from `lower` to `upper`, which are logarithms and stay the ends."""
    if math.floor(upper + 1e-9) - math.ceil(lower - 1e-9) < 2:
        return log_axis(lower, upper)
    return _DecadeAxis(lower, upper, 1.0)


class ValueAxis:
    """The axis of values: stays as it is for as long as the values lie in it and fill a good part of it."""

    def __init__(self) -> None:
        self._axis: Axis | None = None
        self._num_rows = 0

    def holding(self, lower: float, upper: float, num_rows: int) -> Axis:
        """Return an axis that holds `lower` to `upper`, for a canvas of `num_rows` rows of characters."""
        upper = max(upper, lower + max(_LEAST_SPAN * max(abs(lower), abs(upper)), 1e-6))
        before = self._axis
        if (
            before is not None
            and num_rows == self._num_rows
            and before.lower <= lower
            and upper <= before.upper
            and upper - lower >= _KEPT_WHILE_FILLED * (before.upper - before.lower)
        ):
            return before
        if before is not None and num_rows == self._num_rows:
            lower, upper = _with_room(lower, upper, before)
        self._axis, self._num_rows = _fresh_axis(lower, upper, num_rows), num_rows
        return self._axis


def _with_room(lower: float, upper: float, before: Axis) -> tuple[float, float]:
    """Return the range with room to grow on the side where it outgrew the axis, so that it will not do so soon."""
    room = _ROOM_TO_GROW * (upper - lower)
    if lower < before.lower:
        lower = lower - room if lower < 0 else max(0.0, lower - room)
    if upper > before.upper:
        upper += room
    return lower, upper


def _fresh_axis(lower: float, upper: float, num_rows: int) -> Axis:
    """Return the tightest axis whose ticks are whole rows apart.

    One that ends with a tick, unless that wastes too much.
    """
    loose = _loose_axis(lower, upper, max(2, num_rows // 2))
    most_wasteful = _WASTE_ALLOWED * (loose.upper - loose.lower)
    aligned = [
        _axis_of(lower, upper, num_steps)
        for num_steps in range(2, max(2, num_rows // 2) + 1)
        if (num_rows - 1) % num_steps == 0
    ]
    fitting = [axis for axis in aligned if axis.upper - axis.lower <= most_wasteful]
    if fitting:
        return min(fitting, key=lambda axis: (axis.upper - axis.lower, axis.step))
    return _even_axis(lower, upper, num_rows)


def _even_axis(lower: float, upper: float, num_rows: int) -> Axis:
    """Return the tightest axis that begins with a tick and has one every so many whole rows, two of them at least."""
    found = []
    for rows_apart in range(1 if num_rows < 5 else 2, (num_rows - 1) // 2 + 1):
        num_steps = (num_rows - 1) / rows_apart
        step = round_step(upper - lower, max(1, math.floor(num_steps)))
        while math.floor(lower / step + 1e-9) * step + num_steps * step < upper - 1e-9 * abs(upper):
            step = round_step(step * 1.01, 1)
        start = math.floor(lower / step + 1e-9) * step
        found.append(Axis(start, start + num_steps * step, step))
    return min(found, key=lambda axis: (axis.upper - axis.lower, axis.step))


def _axis_of(lower: float, upper: float, num_steps: int) -> Axis:
    """Return the tightest axis of `num_steps` round steps."""
    step = round_step(upper - lower, num_steps)
    while math.floor(lower / step + 1e-9) * step + num_steps * step < upper * (1 - 1e-9):
        step = round_step(step * num_steps * 1.01, num_steps)
    start = math.floor(lower / step + 1e-9) * step
    return Axis(start, start + num_steps * step, step)


def _loose_axis(lower: float, upper: float, max_ticks: int) -> Axis:
    grain = round_step(upper - lower, 2 * max_ticks)
    start, end = math.floor(lower / grain + 1e-9) * grain, math.ceil(upper / grain - 1e-9) * grain
    end = end if end > start else start + grain
    return Axis(start, end, round_step(end - start, max(3, max_ticks)))


def epoch_axis(epoch: float, total: int, max_ticks: int) -> Axis:
    """Return the axis of epochs: the plan's length halved as often as still holds `epoch`."""
    total = max(total, math.ceil(epoch), 1)
    upper = total
    while upper > _TOTAL_SHOWN_FROM_THE_START and math.ceil(upper / 2) >= epoch:
        upper = math.ceil(upper / 2)
    rough = max(1, math.ceil(upper / max_ticks))
    dividing = next((step for step in range(rough, 2 * rough + 1) if upper % step == 0), None)
    return Axis(0, upper, dividing or max(1.0, round_step(upper, max_ticks)))


def fitted_axis(last: float, max_ticks: int) -> Axis:
    """Return the axis from 0 that ends with `last`; of length 1 if that is 0."""
    upper = last if last > 0 else 1.0
    return Axis(0.0, upper, round_step(upper, max_ticks))


def trained_axis(epoch: float, max_ticks: int) -> Axis:
    """Return the axis of the epochs of a run that is over: it ends with the last one trained."""
    if epoch < 1:
        return fitted_axis(epoch, max_ticks)
    return replace(epoch_axis(epoch, math.ceil(epoch), max_ticks), upper=epoch)


def step_axis(step: float, total: float, max_ticks: int) -> Axis:
    """Return the axis of steps: the plan's length halved as often as still holds `step`."""
    upper = max(total, step, 1.0)
    while upper / 2 >= max(step, 1.0):
        upper /= 2
    return Axis(0, upper, round_step(upper, max_ticks))


def minute_axis(first: float, last: float, max_ticks: int) -> Axis:
    """Return the axis of minutes since the start: doubles while it grows, moves in quarters after that."""
    upper = 1.0
    while upper < last - first:
        upper *= 2
    lower = 0.0 if first < upper / 4 else math.floor(first / (upper / 4)) * (upper / 4)
    while lower + upper < last:
        upper *= 2
    return Axis(lower, lower + upper, round_step(upper, max_ticks))
