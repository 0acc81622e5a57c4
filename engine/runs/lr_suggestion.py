"""Learning-rate suggestion from a range test's curve, with its reason. Pure functions of rates and losses."""

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
"""Weight of the earlier reports in the average that decides about divergence."""
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
_MOST_PASSES = 4.0
"""Over the images while the rate triples. So many teach nearly as much as new images would (Muennighoff et al. 2023,
"Scaling Data-Constrained Language Models"); with more the loss falls by repetition, at rates far below a useful one."""
_TENFOLD = 10.0
_MORE_STEPS = 4


class Point(NamedTuple):
    """The mean loss of the batches of a report, and the rate in their middle."""

    lr: float
    loss: float


class Suggestion(Struct, frozen=True, kw_only=True):
    """A suggested learning rate; `lr` is None if the test gives none; `reason` is one sentence either way."""

    lr: float | None
    reason: str


def points_of(preset: Preset, steps: StepSeries) -> list[Point]:
    """Return the curve of a range test from its steps in the journal; the rates follow from the preset."""
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


def images_of(steps: StepSeries) -> list[float]:
    """Return the number of images of each point of `points_of`."""
    return [num for num, loss in zip(steps.num_images, steps.loss, strict=True) if math.isfinite(loss)]


def passes_of(preset: Preset, num_train: int) -> float:
    """Return how often a range test goes over its training images while its rate grows threefold."""
    table = table_of(preset)
    if table is None or num_train < 1:
        return 0.0
    steps_per_pass = num_train // min(preset.train.batch_size, num_train)
    return table.steps * math.log(3) / math.log(preset.optimizer.lr / table.first_lr) / steps_per_pass


def has_diverged(losses: Sequence[float]) -> bool:
    """Return true if the loss, averaged over the last few reports, is above four times its lowest such average."""
    average = weight = 0.0
    lowest = math.inf
    for loss in losses:
        average, weight = _TRAILING * average + (1 - _TRAILING) * loss, _TRAILING * weight + 1 - _TRAILING
        lowest = min(lowest, average / weight)
    return bool(losses) and average / weight > _DIVERGED * lowest


def smoothed(points: Sequence[Point], num_images: Sequence[float] = ()) -> list[float]:
    """Return the loss at every point as a weighted mean of those around it, by their images and distance in log10(lr).

    Losses above twice the first ones count as that: one that explodes must not reach back over those before it.
    """
    if not points:
        return []
    num_images = num_images or [1.0] * len(points)
    ceiling = 2 * _at_start(points, num_images)
    log_lrs = [math.log10(point.lr) for point in points]
    losses = [min(point.loss, ceiling) for point in points]
    result = []
    for log_lr in log_lrs:
        near = slice(bisect_left(log_lrs, log_lr - _WINDOW), bisect_right(log_lrs, log_lr + _WINDOW))
        weights = [
            images * math.exp(-0.5 * ((other - log_lr) / _SMOOTHING_DECADES) ** 2)
            for other, images in zip(log_lrs[near], num_images[near], strict=True)
        ]
        result.append(sum(map(float.__mul__, weights, losses[near])) / sum(weights))
    return result


def _at_start(points: Sequence[Point], num_images: Sequence[float]) -> float:
    first = slice(max(1, round(_AT_START * len(points))))
    weighted = (point.loss * images for point, images in zip(points[first], num_images[first], strict=True))
    return sum(weighted) / sum(num_images[first])


def suggest(
    points: Sequence[Point],
    steps: int,
    *,
    diverged: bool = False,
    curve: Sequence[float] | None = None,
    num_images: Sequence[float] = (),
    passes: float = 0.0,
    num_train: int = 0,
) -> Suggestion:
    """Return the rate to train with, in one figure, from the curve of a range test.

    Args:
        points: in the order of their rates.
        steps: of the whole test, in batches.
        diverged: the test ended because the loss rose too far, or was no longer a number.
        curve: the points `smoothed`, if the caller has them.
        num_images: of each point; empty if they are all the same.
        passes: over the training images, from `passes_of`.
        num_train: training images, of which the reason speaks.
    """
    more = f"--steps {_MORE_STEPS * steps}"
    if len(points) < _FEWEST_POINTS:
        many = f"{len(points)} point{'' if len(points) == 1 else 's'}"
        return _none(f"{many} cannot say anything: give the test more of its steps, or {more}.")
    num_images = num_images or [1.0] * len(points)
    curve = smoothed(points, num_images) if curve is None else curve
    start, end = _at_start(points, num_images), points[-1].lr
    lowest = min(range(len(curve)), key=curve.__getitem__)
    fall = start - curve[lowest]
    least = max(_FALL * start, _SIGMAS * _scatter(points, num_images))
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
    if passes > _MOST_PASSES:
        return _none(
            f"The test went over its {num_train:,} training images {passes:.0f} times while the rate tripled, so the "
            "loss fell because they were memorised, at rates that are too small: try --thorough."
        )
    bottom = next(at for at, loss in enumerate(curve) if loss <= curve[lowest] + _BOTTOM * fall)
    return Suggestion(
        lr=float(f"{points[bottom].lr / _BELOW_BOTTOM:.1g}"),
        reason=f"That is about a third of lr {points[bottom].lr:.1g}, where the loss, {start:.2f} at the start, had "
        f"come to {curve[bottom]:.2f} and stopped falling; behind that it rose.",
    )


def _none(reason: str) -> Suggestion:
    return Suggestion(lr=None, reason=reason)


def _scatter(points: Sequence[Point], num_images: Sequence[float]) -> float:
    """Return the standard deviation of a smoothed point, by how neighbours differ in the first half of the test.

    The loss of a point scatters by the inverse root of its images.
    """
    half, usual = len(points) // 2, fmean(num_images)
    pairs = zip(pairwise(points[:half]), pairwise(num_images[:half]), strict=True)
    variances = [(after.loss - before.loss) ** 2 / (usual / n + usual / m) for (before, after), (n, m) in pairs]
    decades = math.log10(points[-1].lr / points[0].lr)
    num_in_window = max(1.0, 2 * math.sqrt(math.pi) * _SMOOTHING_DECADES * len(points) / decades)
    return math.sqrt(fmean(variances) / num_in_window)
