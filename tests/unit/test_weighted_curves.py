"""Curves weighted by images: a report of few images draws no wall; a cursor reads wherever a curve runs."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal.events import RunFinished, StageStarted, StepsTrained
from engine.journal.series import StepSeries, without_light
from engine.journal.state import EpochPoint, RunState, fold
from presets.schema import Report
from tui.data.summary import RunCurves
from tui.plots.chart import Chart, Resolution
from tui.plots.downsample import Column
from tui.plots.metrics import MetricChart, View, train_means
from tui.plots.overlay import OverlaidRun, OverlayChart

SIZE = Resolution(num_columns=100, num_rows=9, max_ticks=5)
STAGE = StageStarted(stage=0, num_stages=1, name="", first_epoch=1, epochs=700, steps_per_epoch=100)


def report(step: int, loss: float, num_images: int, global_step: int | None = None) -> StepsTrained:
    return StepsTrained(
        epoch=1, step=step, global_step=step if global_step is None else global_step, num_steps=1,
        num_images=num_images, loss=loss, top1=loss / 10, lr=0.1, images_per_s=1.0, time=float(step),
    )  # fmt: skip


UNSMOOTHED, OVER, OVER_LOG = View(smoothing=0.0), View(is_over=True), View(is_over=True, is_log=True)


def drawn(*reports: StepsTrained, view: View = UNSMOOTHED) -> Chart:
    return MetricChart("loss", Report()).chart(fold([STAGE, *reports]), SIZE, view)


def test_a_report_of_less_than_half_the_images_is_merged_with_its_predecessor() -> None:
    merged = (4.0 * 1000 + 1.0 * 200) / 1200
    assert without_light([3.0, 4.0, 1.0, 5.0], [900, 1000, 200, 1000]) == [3.0, merged, merged, 5.0]
    assert without_light([4.0, 1.0], [1000, 500]) == [4.0, 1.0]  # half is enough
    assert without_light([4.0, 1.0, 9.0], [1000, 400, 100]) == [(4000.0 + 400 + 900) / 1500] * 3
    assert without_light([4.0, math.nan], [1000, 10])[0] == 4.0
    assert without_light([], []) == []


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 5000)), min_size=1, max_size=60))
def test_merging_leaves_the_mean_over_all_images(reports: list[tuple[float, int]]) -> None:
    values, num_images = [value for value, _ in reports], [number for _, number in reports]
    merged = without_light(values, num_images)
    summed = math.fsum(value * number for value, number in reports)
    assert math.fsum(v * n for v, n in zip(merged, num_images, strict=True)) == pytest.approx(summed, abs=1e-3)
    assert min(values) - 1e-9 <= min(merged) <= max(merged) <= max(values) + 1e-9


def test_the_last_batch_of_an_epoch_draws_no_wall() -> None:
    chart = drawn(report(40, 2.0, 1000), report(60, 2.2, 1000), report(100, 9.0, 40))
    level = (2.2 * 1000 + 9.0 * 40) / 1040
    assert [column for column in chart.bands[0].columns if column] == [
        Column(2.0, 2.0, 2.0, 1000.0), Column(*[pytest.approx(level)] * 3, 1000.0),  # type: ignore[list-item]
        Column(*[pytest.approx(level)] * 3, 40.0),  # type: ignore[list-item]
    ]  # fmt: skip
    assert chart.y.upper < 3
    assert max(chart.lines[0].ys) == pytest.approx(level)


def test_a_light_report_that_comes_later_is_drawn_as_if_it_had_been_there() -> None:
    events = [report(40, 2.0, 1000), report(60, 2.2, 1000), report(99, 9.0, 40), report(100, 3.0, 900)]
    charts, state = MetricChart("loss", Report()), fold([STAGE])
    for event in events:
        fold([event], state)
        grown = charts.chart(state, SIZE, View())
    assert grown.bands == MetricChart("loss", Report()).chart(state, SIZE, View()).bands


def test_the_legend_is_the_mean_over_images() -> None:
    chart = drawn(report(40, 2.0, 1000), report(60, 3.0, 1000), report(100, 9.0, 400))
    assert chart.legend[0][0] == f"━ train {(2000 + 3000 + 3600) / 2400:.2f}" == "━ train 3.58"


def test_a_thinned_curve_has_no_light_reports_and_stands_for_all_images() -> None:
    series, total = StepSeries(512), 0
    for number in range(1, 5000):
        is_last = number % 10 == 0  # of an epoch
        series.extend([report(number, 50.0 if is_last else 2.0, 20 if is_last else 1000)], 10)
        total += 20 if is_last else 1000
    assert sum(series.num_images) == total
    assert series.num_thinned > 100
    assert max(series.loss[: series.num_thinned]) == pytest.approx((2.0 * 1000 + 50.0 * 20) / 1020)
    values, _ = series.shown("loss", 0, len(series))
    assert max(values) == pytest.approx((2.0 * 1000 + 50.0 * 20) / 1020)
    assert max(series.loss) == 50.0  # the newest are kept as they were reported


def test_a_report_without_images_has_a_weight_and_too_many_do_no_harm() -> None:
    series = StepSeries(64)
    series.extend([report(number, 1.0, 0 if number % 2 else 2**53) for number in range(1, 400)], 100)
    assert min(series.num_images) >= 1
    assert all(math.isfinite(value) for value in series.shown("loss", 0, len(series))[0])


def point(number: int, epoch: float, loss: float) -> EpochPoint:
    return EpochPoint(int(100 * epoch), epoch, float(number), loss, 0.5, 1.0, 0.5, 0.1, 1.0, epoch != number)


def test_an_epoch_left_early_is_merged_with_the_one_before() -> None:
    assert train_means([point(1, 1.0, 4.0), point(2, 1.1, 9.0)], "loss") == pytest.approx([(4.0 + 0.1 * 9.0) / 1.1] * 2)
    assert train_means([point(1, 1.0, 4.0), point(2, 1.6, 9.0)], "loss") == [4.0, 9.0]


# --- reading -------------------------------------------------------------------------------------


def read(share: float, *reports: StepsTrained, view: View = OVER) -> str:
    return drawn(*reports, view=replace(view, cursor=share)).legend[1][0]


def test_the_cursor_reads_a_value_in_every_column_between_first_and_last_report() -> None:
    reports = (report(20, 4.0, 100), report(60, 2.0, 100), report(100, 1.0, 100))
    assert read(60 / 99, *reports) == "━ train 2.000 (2.000 to 2.000)"
    assert read(40 / 99, *reports) == "━ train 3.000 (interpolated)"  # column 40, half-way from 20 to 60
    assert read(1.0, *reports) == "━ train 1.000 (1.000 to 1.000)"
    assert read(0.05, *reports) == "no batch trained here"
    texts = [read(number / 99, *reports) for number in range(20, 100)]
    assert all(text.startswith("━ train ") for text in texts)


def test_on_a_logarithmic_axis_the_cursor_interpolates_along_the_line_as_drawn() -> None:
    reports = (report(20, 4.0, 100), report(60, 1.0, 100), report(100, 1.0, 100))
    assert read(40 / 99, *reports, view=OVER_LOG) == "━ train 2.000 (interpolated)"


def test_a_run_that_is_over_fits_its_axes_to_what_was_trained() -> None:
    events = [STAGE, *(report(step, 2.0, 100) for step in range(1, 101))]
    events += [report(1, 2.0, 100, 300)]
    state: RunState = fold(events)
    state.epochs = [point(1, 1.0, 2.0), point(2, 2.0, 2.0), point(3, 3.0, 2.0)]
    chart = MetricChart("loss", Report())
    assert chart.chart(state, SIZE, View()).x.upper == 11  # alive: the 700 epochs of the plan, halved
    assert chart.chart(state, SIZE, View(is_over=True)).x.upper == 3  # lost
    fold([RunFinished(outcome="stopped", reason="", epoch=3, global_step=300, best_epoch=1, best_val_top1=0.5)], state)
    assert chart.chart(state, SIZE, View()).x.upper == 3
    assert chart.chart(state, SIZE, View(x="steps")).x.upper == 300
    state.first_started_time = state.epochs[-1].time - 600
    assert chart.chart(state, SIZE, View(x="min")).x.upper == 10


# --- several runs --------------------------------------------------------------------------------


def overlaid(*points: EpochPoint, is_over: bool) -> OverlaidRun:
    return OverlaidRun("id", "run", "1", "#56b4e9", RunCurves(points, 700, Report(), is_over))


def test_the_overlay_fits_runs_that_are_over_and_the_plan_of_those_that_train() -> None:
    points = point(1, 1.0, 4.0), point(2, 2.0, 2.0), point(3, 2.25, 8.0)
    over, alive = overlaid(*points, is_over=True), overlaid(*points, is_over=False)
    assert OverlayChart("loss").chart([over, over], SIZE).x.upper == 2.25
    assert OverlayChart("loss").chart([over, alive], SIZE).x.upper == 11
    train = OverlayChart("loss").chart([over], SIZE).lines[0]
    assert list(train.ys) == pytest.approx([4.0, (2.0 + 0.25 * 8.0) / 1.25, (2.0 + 0.25 * 8.0) / 1.25])


def test_the_overlay_has_a_logarithmic_axis_for_the_loss_alone() -> None:
    run = overlaid(point(1, 1.0, 10.0), point(2, 2.0, 0.1), is_over=True)
    chart = OverlayChart("loss").chart([run], SIZE, is_log=True)
    assert chart.y.is_log
    assert list(chart.lines[0].ys) == pytest.approx([1.0, -1.0])
    assert list(chart.lines[1].ys) == pytest.approx([0.0, 0.0])  # val 1.0
    assert not OverlayChart("top1").chart([run], SIZE, is_log=True).y.is_log
