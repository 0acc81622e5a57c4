"""The curve of steps: exact up to a bound, and beyond it what a plot can show."""

import math
from itertools import pairwise
from statistics import fmean

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal.events import StepsTrained
from engine.journal.series import _SLOTS, COLUMNS, StepSeries

MOST = 4096


def report(number: int, loss: float | None = None) -> StepsTrained:
    return StepsTrained(
        epoch=1, step=3 * number, global_step=3 * number, num_steps=3, num_images=96, lr=0.1, images_per_s=100.0,
        loss=2.0 + math.sin(number) if loss is None else loss, top1=0.5 + 0.1 * math.cos(number), time=float(number),
        grad_norm=1.0 + number % 7,
    )  # fmt: skip


def filled(num_reports: int, most: int | None = MOST) -> StepSeries:
    series = StepSeries(most)
    series.extend([report(number) for number in range(1, num_reports + 1)], 1000)
    return series


def content(series: StepSeries) -> list[object]:
    return [*(list(getattr(series, name)) for name in COLUMNS), series.num_reports, series.slot_steps,
            series.num_thinned]  # fmt: skip


def test_a_curve_below_the_bound_is_exact() -> None:
    assert list(filled(MOST - 1)) == list(filled(MOST - 1, None))
    assert filled(MOST - 1).version == 0


def test_a_very_long_curve_takes_bounded_memory_and_counts_every_report() -> None:
    series = StepSeries(MOST)
    for start in range(0, 40 * MOST, 1000):
        series.extend([report(number) for number in range(start, start + 1000)], 1000)
        assert len(series) < MOST
    assert series.num_reports == len(range(0, 40 * MOST, 1000)) * 1000
    assert len(series) > MOST // 4
    assert all(before < after for before, after in pairwise(series.global_step))


def test_the_newest_reports_are_kept_exactly() -> None:
    series, whole = filled(10 * MOST), filled(10 * MOST, None)
    newest = MOST // 4
    assert list(series)[-newest:] == list(whole)[-newest:]


def test_peaks_are_kept_and_the_older_points_lie_evenly() -> None:
    series = StepSeries(MOST)
    peaks = {777: 9.5, 5_000: 0.01, 20_000: 7.25}
    series.extend([report(number, peaks.get(number)) for number in range(1, 40_000)], 1000)
    assert peaks.keys() <= {step // 3 for step in series.global_step}
    assert set(peaks.values()) <= set(series.loss)
    assert max(after - before for before, after in pairwise(series.global_step)) <= 2 * series.slot_steps


def test_means_stay_what_they_are() -> None:
    """Extremes are few beside the points taken evenly: one spike in each block moves its mean by a twentieth or so."""
    losses = [10.0 if number % 500 == 0 else 1.0 for number in range(1, 40_000)]
    series = StepSeries(MOST)
    series.extend([report(number, loss) for number, loss in enumerate(losses, start=1)], 1000)
    thinned = series.loss[: series.num_thinned]
    assert fmean(thinned) == pytest.approx(fmean(losses), rel=0.08)
    assert series.num_thinned > 5 * _SLOTS


@given(st.lists(st.integers(1, 700), max_size=30), st.integers(64, 300))
def test_it_is_thinned_alike_however_many_reports_come_at_once(sizes: list[int], most: int) -> None:
    events = [report(number) for number in range(1, sum(sizes) + 1)]
    at_once, in_parts, start = StepSeries(most), StepSeries(most), 0
    at_once.extend(events, 1000)
    for size in sizes:
        in_parts.extend(events[start : start + size], 1000)
        start += size
    assert content(in_parts) == content(at_once)


def test_what_was_lost_with_a_worker_is_cut_off_and_counted() -> None:
    series = filled(10 * MOST)
    series.cut_after(3 * (10 * MOST - 100))
    assert series.num_reports == 10 * MOST - 100
    assert series.global_step[-1] == 3 * (10 * MOST - 100)
    series.cut_after(3 * MOST)
    assert series.global_step[-1] <= 3 * MOST
    assert series.num_reports == pytest.approx(MOST, rel=0.08)
    series.extend([report(number) for number in range(MOST + 1, 9 * MOST)], 1000)
    assert all(before < after for before, after in pairwise(series.global_step))


def test_numbers_that_are_none_and_steps_that_go_back_do_no_harm() -> None:
    series = StepSeries(64)
    series.extend([report(number % 90, math.nan if number % 3 else math.inf) for number in range(2000)], 1000)
    assert len(series) < 64


def test_the_largest_norms_are_kept_and_what_an_older_version_did_not_write_is_none() -> None:
    peaks = {4_001: 900.0, 30_003: 1e-6}
    events = [
        msgspec.structs.replace(report(number), grad_norm=None if number < 2_000 else peaks.get(number, 1.0))
        for number in range(1, 40_000)
    ]
    series = StepSeries(MOST)
    series.extend(events, 1000)
    assert {900.0, 1e-6} <= set(series.grad_norm)
    assert series[0].grad_norm is None
    assert series[-1].grad_norm == 1.0
    assert {point.grad_norm for point in series if point.global_step < 6_000} == {None}


def test_a_light_report_has_its_predecessors_norm_and_its_own_rate() -> None:
    series = StepSeries()
    events = [report(1), msgspec.structs.replace(report(2), num_images=2, grad_norm=50.0, lr=0.2)]
    series.extend(events, 1000)
    (norms, _), (rates, _) = series.shown("grad_norm", 0, 2), series.shown("lr", 0, 2)
    assert norms[0] == norms[1] < 5
    assert rates == [events[0].lr, 0.2]
