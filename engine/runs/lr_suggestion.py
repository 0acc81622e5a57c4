"""What a learning-rate range test says: the rate to train with and why, or why it cannot say. Numbers only.

Knows rates and losses; no files, no preset's name, no plots.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from msgspec import Struct

from engine.journal.series import StepSeries
from presets.range_test import rate_at, table_of
from presets.schema import Preset

MOST_POINTS = 150
"""Reports of a test, about: as many as a plot has columns for."""
_FEWEST_POINTS = 15
_SMOOTHING_DECADES = 0.12
"""Standard deviation of the window over log10(lr): at 25 points a decade, three of them to either side."""
_WINDOW = 4 * _SMOOTHING_DECADES
_DIVERGED = 4.0
"""Times the lowest loss: behind this a test has nothing left to show."""
_TRAILING = 0.8
"""Weight of the reports before, where it is decided whether the loss has diverged."""
_FALL = 0.01
"""Of the loss at the start: less is no fall."""
_RISE = 0.1
"""Of that fall: a loss that comes up by less from its lowest has not risen again."""
_SIGMAS = 4.0
"""Of the scatter of a smoothed point: what is smaller, down or up, may be noise."""
_AT_START = 0.1
"""Of the points, whose mean is the loss at the start."""
_BOTTOM = 0.1
"""Of the fall: so near its lowest the loss has stopped falling; the lowest itself wanders on a flat bottom."""
_BELOW_BOTTOM = 3.0
"""So far below that the rate is put: chosen on two networks, between what BaseNet (SGD) and the demo (AdamW) like."""
_EARLY = 0.1
"""Of the points: a lowest so near the start is none."""
_TENFOLD = 10.0
_MORE_STEPS = 4


class Point(NamedTuple):
    """The mean loss of the batches of a report, and the rate in their middle."""

    lr: float
    loss: float


class Suggestion(Struct, frozen=True, kw_only=True):
    """`lr` is None where the test cannot say; `reason` is one sentence either way."""

    lr: float | None
    reason: str


def points_of(preset: Preset, steps: StepSeries) -> list[Point]:
    """Return the curve of a range test from what its journal told of steps; the preset says where the rate was."""
    table = table_of(preset)
    if table is None:
        return []
    ends = list(steps.global_step)
    middles = [(end + before - 1) / 2 for before, end in zip([0, *ends], ends, strict=False)]
    return [
        Point(rate_at(table, preset.optimizer.lr, max(0.0, middle)), loss)
        for middle, loss in zip(middles, steps.loss, strict=True)
        if math.isfinite(loss)
    ]


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether the loss, averaged over the last few reports, is above four times its lowest such average."""
    average = weight = 0.0
    lowest = math.inf
    for loss in losses:
        average, weight = _TRAILING * average + (1 - _TRAILING) * loss, _TRAILING * weight + 1 - _TRAILING
        lowest = min(lowest, average / weight)
    return bool(losses) and average / weight > _DIVERGED * lowest


def smoothed(points: Sequence[Point]) -> list[float]:
    """Return the loss at every point as a weighted mean of those around it, by their distance in log10(lr).

    Losses above twice the first ones count as that: one that explodes must not reach back over those before it.
    """
    if not points:
        return []
    ceiling = 2 * _at_start([point.loss for point in points])
    places = [math.log10(point.lr) for point in points]
    losses = [min(point.loss, ceiling) for point in points]
    result = []
    for place in places:
        near = slice(bisect_left(places, place - _WINDOW), bisect_right(places, place + _WINDOW))
        weights = [math.exp(-0.5 * ((other - place) / _SMOOTHING_DECADES) ** 2) for other in places[near]]
        result.append(sum(map(float.__mul__, weights, losses[near])) / sum(weights))
    return result


def _at_start(losses: Sequence[float]) -> float:
    return fmean(losses[: max(1, round(_AT_START * len(losses)))])


def suggest(
    points: Sequence[Point], steps: int, *, diverged: bool = False, curve: Sequence[float] | None = None
) -> Suggestion:
    """Return the rate to train with, from the curve of a range test.

    Args:
        points: in the order of their rates.
        steps: of the whole test, in batches.
        diverged: the test ended because the loss rose too far, or was no longer a number.
        curve: the points `smoothed`, where that is at hand.
    """
    more = f"--steps {_MORE_STEPS * steps}"
    if len(points) < _FEWEST_POINTS:
        many = f"{len(points)} point{'' if len(points) == 1 else 's'}"
        return _none(f"{many} cannot say anything: give the test more of its steps, or {more}.")
    curve = smoothed(points) if curve is None else curve
    start, end = _at_start([point.loss for point in points]), points[-1].lr
    lowest = min(range(len(curve)), key=curve.__getitem__)
    fall = start - curve[lowest]
    least = max(_FALL * start, _SIGMAS * _scatter(points))
    rose = diverged or max(curve[lowest:]) - curve[lowest] > max(least, _RISE * fall)
    if fall < least:
        if not rose:
            return _none(
                f"The loss stayed near {start:.2f} up to lr {end:.3g}: try --to {_TENFOLD * end:.2g}, or {more}."
            )
        if lowest < _EARLY * len(points):
            smaller = points[0].lr / _TENFOLD
            return _none(
                f"The loss rose from the start, {start:.2f}, and never fell: try --from {smaller:.2g}, or {more}."
            )
        return _none(
            f"The loss never fell from the {start:.2f} of the start before it rose: the network needs more batches to "
            f"begin to learn; try {more}."
        )
    if not rose:
        return _none(
            f"The loss fell from {start:.2f} to {curve[lowest]:.2f} and had not risen again at lr {end:.3g}, where the "
            f"test ended: try --to {_TENFOLD * end:.2g}."
        )
    bottom = next(at for at, loss in enumerate(curve) if loss <= curve[lowest] + _BOTTOM * fall)
    return Suggestion(
        lr=float(f"{points[bottom].lr / _BELOW_BOTTOM:.2g}"),
        reason=f"That is a third of lr {points[bottom].lr:.2g}, where the loss, {start:.2f} at the start, had come to "
        f"{curve[bottom]:.2f} and stopped falling; behind that it rose.",
    )


def _none(reason: str) -> Suggestion:
    return Suggestion(lr=None, reason=reason)


def _scatter(points: Sequence[Point]) -> float:
    """Return the standard deviation of a smoothed point, by how neighbours differ in the first half of the test."""
    differences = [(after.loss - before.loss) ** 2 for before, after in pairwise(points[: len(points) // 2])]
    decades = math.log10(points[-1].lr / points[0].lr)
    num_in_window = max(1.0, 2 * math.sqrt(math.pi) * _SMOOTHING_DECADES * len(points) / decades)
    return math.sqrt(fmean(differences) / 2 / num_in_window)
