"""What is suggested from curves whose answer is known."""

import math
import random

import pytest

from engine.runs.lr_suggestion import Point, has_diverged, passes_of, smoothed, suggest
from presets import catalog
from presets.range_test import default_range, range_test

STEPS = 300


def curve(
    *,
    fall_at: float = 1e-2,
    rise_at: float = 1.0,
    first: float = 1e-5,
    last: float = 10.0,
    noise: float = 0.0,
    n: int = 150,
) -> list[Point]:
    """A loss of 4.6 that falls by 2 about `fall_at` (its steepest place), and rises without end from `rise_at`."""
    drawn = random.Random(3)
    points = []
    for number in range(n):
        lr = first * (last / first) ** (number / (n - 1))
        fallen = 2.0 / (1.0 + math.exp(-4 * math.log10(lr / fall_at)))
        risen = (math.log10(lr / rise_at) * 4) ** 2 if lr > rise_at else 0.0
        points.append(Point(lr, 4.6 - fallen + risen + drawn.gauss(0, noise)))
    return points


def test_a_clean_valley_gives_a_third_of_the_rate_at_its_bottom() -> None:
    told = suggest(curve(), STEPS)
    assert told.lr == pytest.approx(0.035 / 3, rel=0.3)  # where nine tenths of the fall are over
    assert "4.60 at the start, had come to 2." in told.reason


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_moves_the_suggestion_by_less_than_a_factor_of_three(noise: float) -> None:
    told = suggest(curve(noise=noise), STEPS)
    assert told.lr is not None
    assert 0.035 / 9 < told.lr < 0.035


def test_a_loss_that_never_rises_asks_for_a_larger_end() -> None:
    told = suggest(curve(last=0.1), STEPS)
    assert told.lr is None
    assert "had not risen again at lr 0.1" in told.reason
    assert "--to 1." in told.reason


def test_the_same_curve_says_more_where_the_test_ended_because_it_diverged() -> None:
    told = suggest(curve(last=0.1), STEPS, diverged=True)  # NaN behind the last point
    assert told.lr == pytest.approx(0.035 / 3, rel=0.3)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_loss_that_stays_where_it_is_says_nothing(noise: float) -> None:
    told = suggest(curve(fall_at=1e6, rise_at=1e6, noise=noise), STEPS)
    assert told.lr is None
    assert "stayed near 4.6" in told.reason
    assert "--to 1e+02" in told.reason


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_loss_that_only_rises_asks_for_more_steps(noise: float) -> None:
    told = suggest(curve(fall_at=1e6, noise=noise), STEPS)
    assert told.lr is None
    assert "--steps 1200" in told.reason


def test_a_loss_that_rises_at_once_asks_for_a_smaller_beginning() -> None:
    told = suggest(curve(fall_at=1e6, rise_at=1e-3, first=1e-3), STEPS)
    assert told.lr is None
    assert "--from 0.0001" in told.reason


def test_few_points_say_nothing() -> None:
    assert "3 points cannot say anything" in suggest(curve()[:3], STEPS).reason
    assert "0 points" in suggest([], STEPS).reason
    assert smoothed([]) == []


def test_an_explosion_does_not_reach_back() -> None:
    calm = curve(last=1.0)
    blown = [*calm, Point(1.1, 1e12)]
    assert suggest(blown, STEPS, diverged=True).lr == suggest(calm, STEPS, diverged=True).lr
    assert max(smoothed(blown)) < 10


def test_divergence_is_four_times_the_lowest_and_not_one_bad_batch() -> None:
    losses = [4.6] * 20 + [2.0] * 20
    assert not has_diverged([])
    assert not has_diverged(losses)
    assert not has_diverged([*losses, 15.0])
    assert has_diverged([*losses, *[15.0] * 5])


def test_points_count_by_their_images() -> None:
    """Ten batches of one report say as much as ten reports of one batch each."""
    one_by_one = [Point(1e-3 * 1.001**number, loss) for number, loss in enumerate([3.0] * 10 + [1.0])]
    together = [Point(1e-3, 3.0), Point(1e-3 * 1.001**10, 1.0)]
    assert smoothed(together, [640, 64])[0] == pytest.approx(31 / 11, abs=0.01)
    assert smoothed(one_by_one)[0] == pytest.approx(31 / 11, abs=0.01)
    assert smoothed(together)[0] == pytest.approx(2.0, abs=0.01)


def test_a_report_of_a_few_images_at_the_start_does_not_raise_what_the_loss_falls_from() -> None:
    points, num_images = curve(), [640.0] * 150
    points[0], num_images[0] = Point(points[0].lr, 46.0), 1.0
    assert "4.60 at the start" in suggest(points, STEPS, num_images=num_images).reason
    assert "4.60 at the start" not in suggest(points, STEPS).reason


def test_a_suggestion_has_one_figure_and_so_has_its_reason() -> None:
    told = suggest(curve(), STEPS)
    assert told.lr == 0.01
    assert told.reason.startswith("That is about a third of lr 0.04, where the loss")


@pytest.mark.parametrize(
    ("name", "overrides", "num_train", "passes"),
    [
        ("basenet", (), 45_000, 0.113),  # 2000 batches of 32, a rate that grows by 10 ** 6
        ("demo", (), 9_000, 0.97),
        ("demo", ("train.batch_size=16",), 1_000, 2.2),
        ("basenet", ('optimizer={name="adamw"}',), 245, 19.5),  # seven batches an epoch
        ("basenet", ('optimizer={name="adamw"}',), 56, 136.3),  # one, which leaves 24 images out
    ],
)
def test_passes_are_those_over_the_images_while_the_rate_triples(
    name: str, overrides: tuple[str, ...], num_train: int, passes: float
) -> None:
    preset = catalog.load(name, overrides)
    test = range_test(preset, *default_range(preset.optimizer), 2000)
    assert passes_of(test, num_train) == pytest.approx(passes, rel=0.02)
    assert passes_of(preset, num_train) == 0.0


def test_a_loss_that_fell_by_memorising_suggests_no_rate() -> None:
    assert suggest(curve(), STEPS, passes=3.9, num_train=245).lr == 0.01
    told = suggest(curve(), STEPS, passes=19.5, num_train=245)
    assert told.lr is None
    assert "went over its 245 training images 20 times while the rate tripled" in told.reason
    assert told.reason.endswith("try --thorough.")
    assert "had not risen again" in suggest(curve(last=0.1), STEPS, passes=19.5, num_train=245).reason
