"""Axis limits that move in steps, so that a plot keeps still while its data grow. Plain numbers only."""

import math
from dataclasses import dataclass

_KEPT_WHILE_FILLED = 0.35
_TOTAL_SHOWN_FROM_THE_START = 20


@dataclass(frozen=True)
class Axis:
    """A range with round ends and a tick every `step`."""

    lower: float
    upper: float
    step: float

    def ticks(self) -> list[float]:
        """Return the tick positions inside the range, lowest first."""
        first = math.ceil(self.lower / self.step - 1e-9)
        last = math.floor(self.upper / self.step + 1e-9)
        return [number * self.step for number in range(first, last + 1)]

    def labels(self) -> list[str]:
        """Return the ticks as text, all with as many decimals as the step needs."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return [f"{tick:.{digits}f}" for tick in self.ticks()]


def round_step(span: float, max_ticks: int) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that cuts `span` into at most `max_ticks`."""
    rough = max(span, 1e-9) / max(1, max_ticks)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def value_axis(lower: float, upper: float, max_ticks: int, before: Axis | None = None) -> Axis:
    """Return an axis that holds `lower` to `upper`; the one from before for as long as it still suits."""
    if before is not None and before.lower <= lower and upper <= before.upper:
        filled = (upper - lower) / (before.upper - before.lower)
        wanted_step = round_step(before.upper - before.lower, max_ticks)
        if filled >= _KEPT_WHILE_FILLED and before.step == wanted_step:
            return before
    step = round_step(upper - lower, max_ticks)
    start, end = math.floor(lower / step + 1e-9) * step, math.ceil(upper / step - 1e-9) * step
    end = end if end > start else start + step
    return Axis(start, end, round_step(end - start, max_ticks))


def epoch_axis(epoch: float, total: int, max_ticks: int) -> Axis:
    """Return the axis of epochs: the plan's length halved as often as still holds `epoch`."""
    total = max(total, math.ceil(epoch), 1)
    upper = total
    while upper > _TOTAL_SHOWN_FROM_THE_START and math.ceil(upper / 2) >= epoch:
        upper = math.ceil(upper / 2)
    return Axis(0, upper, max(1.0, round_step(upper, max_ticks)))


def minute_axis(first: float, last: float, max_ticks: int) -> Axis:
    """Return the axis of minutes since the start: doubles while it grows, moves in quarters after that."""
    upper = 1.0
    while upper < last - first:
        upper *= 2
    lower = 0.0 if first < upper / 4 else math.floor(first / (upper / 4)) * (upper / 4)
    while lower + upper < last:
        upper *= 2
    return Axis(lower, lower + upper, round_step(upper, max_ticks))
