"""Downsampling of long series for a plot: least, greatest and mean value of every column of dots. Plain numbers."""

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import mul
from typing import Any, NamedTuple, TypeAlias

from tui.plots.axes import Axis

_Weighted: TypeAlias = tuple[list[float], list[float]]


class Column(NamedTuple):
    """Range and mean of the values in one column; the mean, and the column itself, are weighted by images."""

    low: float
    high: float
    mean: float
    num_images: float = 1.0


class Columns:
    """Range and mean by column of a series that grows; each `follow` looks only at the points added since.

    Another `key` says that points were taken away, or that it is another series.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._columns: list[Column | None] = []
        self._next = 0
        """The first point of the last column but one: more may come in the last, which may change the one before."""

    def follow(
        self, xs: "array[Any]", read: Callable[[int, int], _Weighted], axis: Axis, num_columns: int, key: object
    ) -> list[Column | None]:
        """Return the columns between the ends of `axis`, left to right; None where there is no finite value.

        Args:
            xs: places, never decreasing.
            read: values between two places of the series and the images of each; the last that it returned before
                may change with what comes behind it.
            axis: in the unit of `xs`.
            num_columns: to cut it into.
            key: with another one than before, everything is looked at anew.
        """
        if (key, axis, num_columns) != self._key:
            self._key, self._next = (key, axis, num_columns), 0
            self._columns = [None] * num_columns
        width = (axis.upper - axis.lower) / num_columns
        before = start = max(self._next, bisect_left(xs, axis.lower))
        while start < len(xs) and xs[start] <= axis.upper:
            column = min(num_columns - 1, int((xs[start] - axis.lower) / width))
            is_last = column == num_columns - 1
            edge = math.inf if is_last else axis.lower + (column + 1) * width
            end = len(xs) if is_last else max(start + 1, bisect_left(xs, edge, start))
            self._columns[column] = _column_of(*read(start, end))
            self._next, before, start = before, start, end
        return self._columns


def _column_of(values: list[float], num_images: list[float]) -> Column | None:
    total, weight = sum(map(mul, values, num_images)), sum(num_images)
    if math.isfinite(total):
        low, high = min(values), max(values)
        return Column(low, high, min(high, max(low, total / weight)), weight)
    finite = [(value, number) for value, number in zip(values, num_images, strict=True) if math.isfinite(value)]
    if not finite or len(finite) == len(values):
        return None
    return _column_of([value for value, _ in finite], [number for _, number in finite])


def smoothed(columns: Sequence[Column | None], weight: float) -> list[float | None]:
    """Return the running mean of the columns' means, as TensorBoard smooths, each weighted by its images.

    Args:
        columns: left to right.
        weight: of what was before, from 0 (no smoothing) to below 1.
    """
    values: list[float | None] = []
    total = share = 0.0
    for column in columns:
        if column is None:
            values.append(None)
            continue
        total = weight * total + (1 - weight) * column.num_images * column.mean
        share = weight * share + (1 - weight) * column.num_images
        values.append(total / share)
    return values


class Trace:
    """The least and the greatest value of every column of a short list, in the order in which they came."""

    def __init__(self, x: Callable[[Any], float], y: Callable[[Any], float]) -> None:
        self._x, self._y = x, y

    def follow(self, points: Sequence[Any], axis: Axis, num_columns: int) -> tuple[list[float], list[float]]:
        """Return x and y of at most two points a column, left to right; values that are not finite are dropped."""
        columns: dict[int, tuple[float, float, bool]] = {}
        span = axis.upper - axis.lower
        for point in points:
            x, y = self._x(point), self._y(point)
            if math.isfinite(x) and math.isfinite(y) and axis.lower <= x <= axis.upper:
                column = min(num_columns - 1, int((x - axis.lower) / span * num_columns))
                low, high, rising = columns.get(column, (y, y, True))
                columns[column] = min(low, y), max(high, y), y > high or (rising and y >= low)
        xs: list[float] = []
        ys: list[float] = []
        for column, (low, high, rising) in sorted(columns.items()):
            values = (low,) if low == high else (low, high) if rising else (high, low)
            xs.extend([axis.lower + (column + 0.5) * span / num_columns] * len(values))
            ys.extend(values)
        return xs, ys
