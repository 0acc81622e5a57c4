"""Long series made short enough to draw: the least and the greatest value of every column, kept as they come."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tui.widgets.axes import Axis


class Trace:
    """Follows a list that only grows; a list that is another object, or another axis, starts it afresh."""

    def __init__(self, x: Callable[[Any], float], y: Callable[[Any], float]) -> None:
        self._x, self._y = x, y
        self._points: Sequence[Any] | None = None
        self._axis: Axis | None = None
        self._columns: list[tuple[float, float, bool] | None] = []
        self._num_taken = 0

    def follow(self, points: Sequence[Any], axis: Axis, num_columns: int) -> tuple[list[float], list[float]]:
        """Return x and y of at most two points a column, left to right; values that are not finite are dropped."""
        if self._points is not points or self._axis != axis or len(self._columns) != num_columns:
            self._points, self._axis, self._num_taken = points, axis, 0
            self._columns = [None] * num_columns
        span = axis.upper - axis.lower
        for index in range(self._num_taken, len(points)):
            x, y = self._x(points[index]), self._y(points[index])
            if math.isfinite(x) and math.isfinite(y) and axis.lower <= x <= axis.upper:
                self._take(min(num_columns - 1, int((x - axis.lower) / span * num_columns)), y)
        self._num_taken = len(points)
        return self._drawn(axis, span / num_columns)

    def _take(self, column: int, y: float) -> None:
        held = self._columns[column]
        if held is None:
            self._columns[column] = (y, y, True)
        elif y < held[0]:
            self._columns[column] = (y, held[1], False)
        elif y > held[1]:
            self._columns[column] = (held[0], y, True)

    def _drawn(self, axis: Axis, column_width: float) -> tuple[list[float], list[float]]:
        xs: list[float] = []
        ys: list[float] = []
        for column, held in enumerate(self._columns):
            if held is None:
                continue
            low, high, rising = held
            x = axis.lower + (column + 0.5) * column_width
            values = (low,) if low == high else (low, high) if rising else (high, low)
            xs.extend(x for _ in values)
            ys.extend(values)
        return xs, ys
