"""Axes that keep still and traces that keep every peak."""

import math
from array import array
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal.events import DeviceSampled, HostSample
from engine.journal.state import RunState, fold
from tui.plots.axes import Axis, ValueAxis, epoch_axis, log_axis, minute_axis, trained_axis
from tui.plots.chart import Resolution
from tui.plots.downsample import Column, Columns, Trace, smoothed
from tui.plots.memory import MemoryChart

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


def alike(values: "array[float]") -> Callable[[int, int], tuple[list[float], list[float]]]:
    """Return the reader of a series whose values stand for one image each."""
    return lambda start, end: (values[start:end].tolist(), [1.0] * (end - start))


_VALUES = st.lists(st.tuples(st.floats(0, 3), st.floats(-1e3, 1e3) | st.just(math.nan)), max_size=120)


@given(_VALUES, st.integers(1, 40), st.integers(0, 120))
def test_columns_keep_least_greatest_and_mean_of_every_column_however_they_come(
    pairs: list[tuple[float, float]], num_columns: int, first: int
) -> None:
    xs, ys = array("d"), array("d")
    for gap, y in pairs:  # places never decrease
        xs.append((xs[-1] if xs else 0.0) + gap / 10)
        ys.append(y)
    axis = Axis(0.0, 10.0, 1.0)
    columns = Columns()
    columns.follow(xs[:first], alike(ys[:first]), axis, num_columns, "key")
    found = columns.follow(xs, alike(ys), axis, num_columns, "key")
    values: dict[int, list[float]] = {}
    for x, y in zip(xs, ys, strict=True):
        if x <= axis.upper and math.isfinite(y):
            values.setdefault(min(num_columns - 1, int(x / (10.0 / num_columns))), []).append(y)
    finite = [y for x, y in zip(xs, ys, strict=True) if x <= axis.upper and math.isfinite(y)]
    seen = [column for column in found if column is not None]
    assert min((column.low for column in seen), default=None) == min(finite, default=None)
    assert max((column.high for column in seen), default=None) == max(finite, default=None)
    for number, column in enumerate(found):
        if column is not None and number in values and len(values[number]) == 1:
            assert column.low <= values[number][0] <= column.high or math.isclose(column.low, values[number][0])


def test_columns_look_only_at_what_is_new_and_anew_with_another_key() -> None:
    axis, columns = Axis(0.0, 4.0, 1.0), Columns()
    xs, ys = array("d", [0.5, 1.5, 2.5]), array("d", [1.0, 2.0, 5.0])
    first = list(columns.follow(xs, alike(ys), axis, 4, 0))
    ys[0] = ys[1] = 99.0  # of what was seen, only the last column and the one before are looked at again
    xs.extend([2.6, 3.5])
    ys.extend([7.0, 5.0])
    found = columns.follow(xs, alike(ys), axis, 4, 0)
    assert found[0] == first[0] == Column(1.0, 1.0, 1.0)
    assert found[1] == Column(99.0, 99.0, 99.0)
    assert found[2] == Column(5.0, 7.0, 6.0, 2.0)
    assert columns.follow(xs, alike(ys), axis, 4, 1)[0] == Column(99.0, 99.0, 99.0)


def test_columns_and_smoothing_are_weighted_by_images() -> None:
    values, num_images = [3.0, 3.0, 1.0], [100.0, 80.0, 60.0]
    columns = Columns().follow(
        array("d", [0.2, 0.4, 1.5]), lambda start, end: (values[start:end], num_images[start:end]),
        Axis(0.0, 2.0, 1.0), 2, 0,
    )  # fmt: skip
    assert columns == [Column(3.0, 3.0, 3.0, 180.0), Column(1.0, 1.0, 1.0, 60.0)]
    one = Columns().follow(
        array("d", [0.2, 0.4, 0.5]), lambda start, end: (values[start:end], num_images[start:end]),
        Axis(0.0, 2.0, 1.0), 1, 0,
    )  # fmt: skip
    assert one == [Column(1.0, 3.0, (180 * 3.0 + 60 * 1.0) / 240, 240.0)]
    assert smoothed(columns, 0.5)[1] == pytest.approx((0.25 * 180 * 3.0 + 0.5 * 60 * 1.0) / (0.25 * 180 + 0.5 * 60))


@given(st.floats(-50, 1e4), st.floats(1e-3, 1e4), st.integers(3, 70))
def test_ticks_of_a_value_axis_are_whole_rows_apart(lower: float, span: float, num_rows: int) -> None:
    axis = ValueAxis().holding(lower, lower + span, num_rows)
    rows = [(num_rows - 1) * (tick - axis.lower) / (axis.upper - axis.lower) for tick in axis.ticks()]
    assert len(rows) > 1
    assert rows == pytest.approx([round(row) for row in rows], abs=1e-3)
    assert len({round(above) - round(below) for below, above in pairwise(rows)}) == 1


def test_the_axis_of_a_run_that_is_over_ends_with_what_was_trained() -> None:
    assert trained_axis(3.0, 8) == Axis(0, 3.0, 1)
    assert trained_axis(2.5, 8) == Axis(0, 2.5, 1)
    assert trained_axis(700.0, 8) == epoch_axis(700, 700, 8)
    assert trained_axis(0.25, 8) == Axis(0, 0.25, 0.05)


def test_smoothing_is_a_running_mean_that_begins_at_the_first_value() -> None:
    columns = [Column(4.0, 4.0, 4.0), None, Column(2.0, 2.0, 2.0)]
    assert smoothed(columns, 0.0) == [4.0, None, 2.0]
    first, gap, last = smoothed(columns, 0.5)
    assert (first, gap) == (4.0, None)
    assert last == pytest.approx((0.25 * 4 + 0.5 * 2) / 0.75)


@given(st.floats(-6, 3), st.floats(0, 4))
def test_a_logarithmic_axis_holds_its_range_between_ticks(lower: float, span: float) -> None:
    axis = log_axis(lower, lower + span)
    assert axis.lower <= lower + 1e-9
    assert axis.upper >= lower + span - 1e-9
    assert axis.lower in axis.ticks()
    assert len(axis.labels()) == len(axis.ticks())


def test_a_logarithmic_axis_is_labelled_with_values() -> None:
    assert log_axis(math.log10(0.6), math.log10(4.2)).labels() == ["0.5", "1", "2", "5"]


def test_the_axis_of_a_falling_loss_moves_a_few_times_only() -> None:
    axis = ValueAxis()
    seen = {axis.holding(4.6 - 0.02 * step, 4.6, 25) for step in range(1, 100)}
    assert len(seen) <= 8


def test_memory_is_drawn_the_same_whether_or_not_the_plot_was_seen_empty() -> None:
    resolution = Resolution(num_columns=40, num_rows=7, max_ticks=5)
    chart, state = MemoryChart(), RunState()
    assert chart.chart(state, resolution).lines == ()
    host = HostSample(
        memory_used_bytes=12 * 10**9, memory_total_bytes=64 * 10**9, process_rss_bytes=10**9, cpu_utilization=1
    )
    fold([DeviceSampled(host=host)], state)
    seen_empty, fresh = chart.chart(state, resolution), MemoryChart().chart(state, resolution)
    assert fresh.lines
    assert seen_empty.y == fresh.y
