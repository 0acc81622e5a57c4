"""Axes that keep still and traces that keep every peak."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tui.widgets.axes import Axis, ValueAxis, epoch_axis, minute_axis
from tui.widgets.trace import Trace

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@given(FINITE, st.floats(0, 1e6), st.integers(3, 60))
def test_a_value_axis_holds_its_values(lower: float, span: float, num_rows: int) -> None:
    axis = ValueAxis().holding(lower, lower + span, num_rows)
    slack = 1e-6 * max(1.0, abs(lower), span)
    assert axis.lower <= lower + slack
    assert axis.upper >= lower + span - slack
    assert 1 <= len(axis.ticks()) <= num_rows + 1
    assert len(axis.labels()) == len(axis.ticks())


def test_a_value_axis_keeps_still_while_values_stay_inside() -> None:
    axis = ValueAxis()
    first = axis.holding(2.6, 4.5, 9)
    assert axis.holding(2.7, 4.4, 9) is first
    assert axis.holding(2.6, 9.0, 9) is not first


def test_ticks_are_whole_rows_apart_where_that_wastes_little() -> None:
    axis = ValueAxis().holding(2.6, 4.4, 9)
    assert (axis.lower, axis.upper, axis.step) == (2.5, 4.5, 0.5)
    assert axis.labels() == ["2.5", "3.0", "3.5", "4.0", "4.5"]


@given(st.floats(0, 700), st.integers(1, 700))
def test_an_epoch_axis_holds_the_epoch_and_moves_seldom(epoch: float, total: int) -> None:
    assert epoch_axis(epoch, total, 8).upper >= epoch
    uppers = {epoch_axis(number, total, 8).upper for number in range(total + 1)}
    assert len(uppers) <= 7


def test_a_short_plan_is_shown_whole_from_the_start() -> None:
    assert epoch_axis(0.1, 15, 7) == Axis(0, 15, 3)


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_minute_axis_holds_first_and_last(first: float, length: float) -> None:
    axis = minute_axis(first, first + length, 6)
    assert axis.lower <= first
    assert axis.upper >= first + length


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(allow_nan=True, allow_infinity=True)), max_size=200))
def test_a_trace_keeps_least_and_greatest_and_drops_what_is_not_finite(points: list[tuple[float, float]]) -> None:
    trace = Trace(lambda point: point[0], lambda point: point[1])
    xs, ys = trace.follow(points, Axis(0, 10, 1), 8)
    finite = [y for _, y in points if math.isfinite(y)]
    assert len(xs) == len(ys) <= 16
    assert xs == sorted(xs)
    if finite:
        assert (min(ys), max(ys)) == (min(finite), max(finite))
    else:
        assert ys == []


def test_a_trace_takes_only_what_is_new_and_starts_afresh_with_another_list() -> None:
    trace = Trace(lambda point: point[0], lambda point: point[1])
    points = [(0.5, 1.0)]
    axis = Axis(0, 10, 1)
    trace.follow(points, axis, 10)
    points.append((1.5, 2.0))
    assert trace.follow(points, axis, 10) == ([0.5, 1.5], [1.0, 2.0])
    assert trace.follow([(9.5, 3.0)], axis, 10) == ([9.5], [3.0])


def test_the_axis_of_a_falling_loss_moves_a_few_times_only() -> None:
    axis = ValueAxis()
    seen = {axis.holding(4.6 - 0.02 * step, 4.6, 25) for step in range(1, 100)}
    assert len(seen) <= 8
