"""Charts of learning rate and gradient norm: what they draw, say and read off, from new journals and older ones."""

import math
from dataclasses import replace

import pytest

from engine.journal import events as ev
from engine.journal.state import RunState, fold
from tui.plots.chart import Resolution
from tui.plots.metrics import View
from tui.plots.step_chart import StepChart

RESOLUTION = Resolution(num_columns=60, num_rows=11, max_ticks=6)


def state_of(*reports: tuple[float, float | None, float]) -> RunState:
    """Return a run of two epochs with these learning rates, norms and clipped shares, one of each batch."""
    state = RunState()
    num_steps = len(reports) // 2
    fold([ev.StageStarted(stage=0, num_stages=1, name="train", first_epoch=1, epochs=2, steps_per_epoch=num_steps,
                          total_epochs=2)], state)  # fmt: skip
    fold([steps_trained(number, num_steps, *report) for number, report in enumerate(reports)], state)
    return state


def steps_trained(number: int, num_steps: int, lr: float, norm: float | None, clipped: float) -> ev.StepsTrained:
    return ev.StepsTrained(
        epoch=1 + number // num_steps, step=1 + number % num_steps, global_step=1 + number, num_steps=1, num_images=8,
        loss=1.0, top1=0.5, lr=lr, images_per_s=100.0, grad_norm=norm, clipped=clipped, time=float(number),
    )  # fmt: skip


def test_the_rate_is_drawn_as_it_is() -> None:
    state = state_of(*((0.1 if number < 20 else 0.01, 1.0, 0.0) for number in range(40)))
    chart = StepChart("lr").chart(state, RESOLUTION, View(smoothing=0.9))
    assert chart.title == "learning rate"
    assert set(chart.lines[0].ys) == {0.1, 0.01}
    assert chart.bands == ()
    assert [text for text, _ in chart.legend] == ["━ 0.01"]
    assert chart.y.lower == 0.0
    assert 0.1 <= chart.y.upper <= 0.15


def test_the_norm_is_smoothed_over_its_range_and_its_bound_is_drawn() -> None:
    state = state_of(*((0.1, 2.0 + number % 3, float(number % 2)) for number in range(240)))
    chart = StepChart("grad_norm", clip_norm=3.0).chart(state, RESOLUTION, View())
    assert chart.reference is not None
    assert (chart.reference.y, chart.reference.label) == (3.0, "clip_norm 3")
    assert [text for text, _ in chart.legend] == ["━ 3.05", "50 % of batches clipped"]
    (band,) = chart.bands
    assert {(column.low, column.high) for column in band.columns if column is not None} == {(2.0, 4.0)}
    assert all(2.5 < y < 3.5 for y in chart.lines[0].ys[5:])


def test_a_bound_far_above_the_norms_does_not_squeeze_them() -> None:
    chart = StepChart("grad_norm", clip_norm=100.0).chart(state_of(*[(0.1, 2.0, 0.0)] * 4), RESOLUTION, View())
    assert chart.reference is None
    assert chart.y.upper < 5
    assert [text for text, _ in chart.legend] == ["━ 2", "0 % of batches clipped"]


def test_the_norm_has_a_logarithmic_axis_and_the_rate_has_none() -> None:
    state = state_of(*((0.1, 10.0 ** (number // 8), 0.0) for number in range(32)))
    view = View(is_log=True, smoothing=0.0)
    norm = StepChart("grad_norm").chart(state, RESOLUTION, view)
    assert norm.y.is_log
    assert max(norm.lines[0].ys) == pytest.approx(3.0)
    assert not StepChart("lr").chart(state, RESOLUTION, view).y.is_log


@pytest.mark.parametrize(("place", "said"), [(0.25, "━ 2"), (0.74, "━ 4 (3 to 5)")])
def test_values_are_read_at_the_cursor(place: float, said: str) -> None:
    norms = [2.0] * 100 + [3.0, 4.0, 5.0, 4.0] * 25
    state = state_of(*((0.1, norm, 0.0) for norm in norms))
    legend = StepChart("grad_norm").chart(state, RESOLUTION, View(cursor=place)).legend
    assert [text for text, _ in legend] == [f"│ {2 * place:.2f}", said]


def test_an_older_journal_has_a_rate_and_says_that_it_has_no_norms() -> None:
    state = state_of(*[(0.1, None, 0.0)] * 8)
    assert StepChart("lr").chart(state, RESOLUTION, View()).has_points
    chart = StepChart("grad_norm", clip_norm=1.0).chart(state, RESOLUTION, View())
    assert not chart.has_points
    assert chart.legend == ()
    assert "earlier version" in chart.empty
    assert StepChart("grad_norm").chart(RunState(), RESOLUTION, View()).empty == "no batch trained yet"


def test_norms_begin_where_a_newer_version_went_on() -> None:
    state = state_of(*((0.1, None if number < 100 else 2.0, 0.0) for number in range(200)))
    xs = StepChart("grad_norm").chart(state, RESOLUTION, View(smoothing=0.0)).lines[0].xs
    assert min(xs) == pytest.approx(1.0, abs=0.05)
    assert all(map(math.isfinite, xs))


def test_a_pause_is_marked() -> None:
    state = state_of(*[(0.1, 1.0, 0.0)] * 8)
    fold([ev.CommandApplied(command_id="a", command="Pause", accepted=True, effect="paused", epoch=1, global_step=4,
                            time=9.0)], state)  # fmt: skip
    chart = StepChart("lr").chart(state, RESOLUTION, replace(View(), is_large=True))
    assert [mark.label for mark in chart.marks] == ["▾pause"]
