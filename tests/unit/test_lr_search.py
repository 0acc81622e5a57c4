"""A search for a learning rate over trainings whose accuracies are known: what it trains, and what it finds."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from msgspec.structs import replace

from engine.runs.lr_search import (
    Cost,
    Grid,
    Progress,
    Search,
    Trial,
    found,
    grid_of,
    has_diverged,
    planned,
    progress_of,
)
from presets.errors import CifartuiError
from presets.short_run import Length

Accuracy = Callable[[float, float], float | None]
"""Of a rate and a number of epochs; None if it diverges."""


def search(
    *,
    lr: float = 0.01,
    ends: tuple[float | None, float | None] = (None, None),
    time_s: float = 1200,
    num_images: int = 45_000,
    epochs: int = 30,
    image_s: float = 1 / 5000,
    num_val: int = 5000,
) -> Search:
    begun = Search(
        grid=grid_of(lr, *ends), num_images=num_images, whole_epochs=epochs, batch_size=64,
        cost=Cost(6.0, image_s, 1.0), time_s=time_s, num_val=num_val,
    )  # fmt: skip
    return planned(begun)


def peak(at: float, *, noise: float = 0.0, seed: int = 0, diverges_above: float = math.inf) -> Accuracy:
    """Accuracy that is best at a rate, falls by a third at ten times as much or as little, and grows with epochs."""
    drawn = random.Random(seed)

    def accuracy(lr: float, epochs: float) -> float | None:
        if lr > diverges_above:
            return None
        return 0.5 * (1 - math.exp(-epochs / 4)) * math.exp(-(math.log10(lr / at) ** 2) * 2) + drawn.gauss(0, noise)

    return accuracy


def trained(begun: Search, accuracy: Accuracy) -> tuple[Progress, dict[tuple[float, Length], Trial]]:
    """Train all runs of a search."""
    trials: dict[tuple[float, Length], Trial] = {}
    while (progress := progress_of(begun, trials)).next is not None:
        lr, length = progress.next
        assert (lr, length) not in trials
        reached, seconds = accuracy(lr, begun.epochs(length)), begun.cost.seconds(length)
        trials[lr, length] = Trial(
            lr=lr, length=length, accuracy=reached, loss=math.inf if reached is None else 4 - reached,
            seconds=seconds if reached is not None else 5.0, cost=begun.cost if reached is not None else None,
        )  # fmt: skip
    return progress, trials


def test_each_rung_keeps_the_better_half_and_trains_it_for_longer() -> None:
    begun = search()
    progress, trials = trained(begun, peak(0.01))
    assert [len(rung.trials) for rung in progress.rungs] == [9, 5, 3]
    epochs = [begun.epochs(rung.length) for rung in progress.rungs]
    assert all(1.5 < after / before < 2.5 for before, after in pairwise(epochs))
    assert [trial.lr for trial in progress.rungs[1].trials] == [0.0025, 0.005, 0.01, 0.02, 0.04]
    assert [trial.lr for trial in progress.rungs[2].trials] == [0.005, 0.01, 0.02]
    assert 0.6 * 1200 < sum(trial.seconds for trial in trials.values()) <= 1200
    told = found(begun, progress.rungs)
    assert told.lr == 0.01
    assert told.reason.startswith("It came to 47.")
    assert "the best of 3 rates trained so long." in told.reason
    assert "noise" not in told.reason


@pytest.mark.parametrize("at", [0.0013, 0.0071, 0.03, 0.4])
def test_noise_leaves_the_rate_within_a_step_of_the_best(at: float) -> None:
    begun = search()
    rates = [found(begun, trained(begun, peak(at, noise=0.005, seed=seed))[0].rungs).lr for seed in range(20)]
    ratios = [max(lr / at, at / lr) for lr in rates if lr is not None]
    assert len(ratios) == 20
    assert sum(ratio < 1.5 for ratio in ratios) >= 16
    assert max(ratios) < 2.1


def test_a_best_rate_at_the_edge_is_followed_beyond_it() -> None:
    begun = search(time_s=3600)
    progress, _ = trained(begun, peak(2.0))
    assert begun.grid.rate(begun.grid.places[-1]) == 0.16
    assert found(begun, progress.rungs).lr == pytest.approx(2.0, rel=0.3)
    progress, _ = trained(begun, peak(3e-5))
    assert found(begun, progress.rungs).lr == pytest.approx(3e-5, rel=0.3)


def test_a_rate_that_was_dropped_is_trained_again_beside_a_best_one_at_the_edge() -> None:
    """The best rate falls as training grows longer."""
    begun = search(time_s=2400)
    drifting: Accuracy = lambda lr, epochs: peak(0.04 / epochs)(lr, 10.0)  # noqa: E731
    progress, _ = trained(begun, drifting)
    last = progress.rungs[-1]
    best = found(begun, progress.rungs).lr
    assert best is not None
    assert last.trials[0].lr < best < last.trials[-1].lr
    assert best == pytest.approx(0.04 / begun.epochs(last.length), rel=0.5)


def test_an_edge_without_time_or_beyond_what_was_given_is_said() -> None:
    begun = search(ends=(0.02, 0.2))
    told = found(begun, trained(begun, peak(0.001))[0].rungs)
    assert told.lr == 0.02
    assert told.reason.endswith("It is the smallest that was to be tried: give another --from.")
    told = found(begun, trained(begun, peak(5.0))[0].rungs)
    assert told.lr == 0.2
    assert told.reason.endswith("It is the largest that was to be tried: give another --to.")
    begun = search(time_s=150, image_s=1 / 450, num_val=500_000)
    told = found(begun, trained(begun, peak(1.0))[0].rungs)
    assert told.lr is not None
    assert told.reason.endswith("A larger rate may be better, for which there was no time: give it a larger --budget.")


def test_a_rate_below_one_that_diverged_is_no_edge() -> None:
    begun = search()
    progress, _ = trained(begun, peak(0.05, diverges_above=0.02))
    told = found(begun, progress.rungs)
    assert told.lr == 0.02
    assert "--" not in told.reason
    assert all(trial.accuracy is not None for rung in progress.rungs[1:] for trial in rung.trials)


def test_rates_that_all_diverge_are_followed_downwards() -> None:
    progress, _ = trained(search(time_s=3600), peak(1e-5, diverges_above=1e-4))
    assert found(search(time_s=3600), progress.rungs).lr == pytest.approx(1e-5, rel=0.3)
    none = trained(search(ends=(0.1, 1.0)), peak(1e-5, diverges_above=1e-4))[0]
    told = found(search(ends=(0.1, 1.0)), none.rungs)
    assert told.lr is None
    assert told.reason == "Every rate down to 0.1 diverged: try --to 0.05."


def test_rates_that_do_not_differ_are_not_chosen_from() -> None:
    begun = search(num_val=153)
    told = found(begun, trained(begun, lambda lr, epochs: 0.93 + 0.01 * (peak(0.01)(lr, epochs) or 0))[0].rungs)
    assert told.lr is None
    assert "the rates from 0.000625 to 0.16 do not differ" in told.reason
    assert "within the noise of 153 validation images" in told.reason


def test_neighbours_within_noise_are_named_with_the_standard_error() -> None:
    begun = search(num_val=500)
    told = found(begun, trained(begun, peak(0.01))[0].rungs)
    assert told.lr == 0.01
    assert "0.005 (45.1 %) and 0.02 (45.1 %)" not in told.reason  # without noise they are 4 points below

    def wide(lr: float, epochs: float) -> float | None:
        return 0.5 - abs(lr - 0.01) if 0.004 < lr < 0.025 else peak(0.01)(lr, epochs)

    told = found(begun, trained(begun, wide)[0].rungs)
    error = 100 * math.sqrt(2 * 0.25 / 502)
    assert f"within the noise of 500 validation images (± {error:.1f} points)." in told.reason
    assert "0.005 (49.5 %) and 0.02 (49.0 %) are within" in told.reason


def test_of_equal_accuracies_the_lower_loss_wins() -> None:
    begun = search(num_val=153)
    progress, trials = trained(begun, lambda lr, _: 0.95 if 0.002 < lr < 0.1 else 0.5)
    length = progress.rungs[-1].length
    lowest = {key: replace(trial, loss=abs(math.log(trial.lr / 0.02))) for key, trial in trials.items()}
    again = progress_of(begun, lowest)
    while again.next is not None:
        lr, length = again.next
        lowest[again.next] = Trial(
            lr=lr, length=length, accuracy=0.95, loss=abs(math.log(lr / 0.02)), seconds=9.0, cost=begun.cost
        )
        again = progress_of(begun, lowest)
    assert found(begun, again.rungs).lr == 0.02


def test_a_search_goes_on_as_if_it_had_not_been_interrupted() -> None:
    begun = search()
    whole, trials = trained(begun, peak(0.03, noise=0.0))
    for num in range(len(trials)):
        part = dict(list(trials.items())[:num])
        assert progress_of(begun, part).next == list(trials)[num]
    assert progress_of(begun, trials).next is None
    assert found(begun, progress_of(begun, trials).rungs) == found(begun, whole.rungs)


@pytest.mark.parametrize("time_s", [60, 90, 150, 300, 1200, 7200])
@pytest.mark.parametrize("image_s", [1 / 450, 1 / 5000])
def test_the_time_decides_how_many_rates_and_how_long(time_s: float, image_s: float) -> None:
    try:
        begun = search(time_s=time_s, image_s=image_s)
    except CifartuiError:
        assert time_s <= 60
        return
    progress, trials = trained(begun, peak(0.015))
    assert sum(trial.seconds for trial in trials.values()) <= time_s
    assert len(progress.rungs[0].trials) >= 3
    assert all(rung.length.epochs <= 30 and rung.length.num_images <= 45_000 for rung in progress.rungs)
    assert all(begun.epochs(rung.length) * 45_000 / 64 >= 49 for rung in progress.rungs)


def test_runs_that_take_longer_than_measured_leave_the_search_shorter() -> None:
    begun = search()
    trials: dict[tuple[float, Length], Trial] = {}
    slow = Cost(12.0, 1 / 2500, 2.0)
    while (progress := progress_of(begun, trials)).next is not None:
        lr, length = progress.next
        trials[lr, length] = Trial(
            lr=lr, length=length, accuracy=peak(0.01)(lr, begun.epochs(length)), loss=1.0,
            seconds=slow.seconds(length), cost=slow,
        )  # fmt: skip
    assert sum(trial.seconds for trial in trials.values()) <= 1200
    assert found(begun, progress.rungs).lr == 0.01


def test_a_time_that_is_too_short_names_one_that_is_not() -> None:
    with pytest.raises(CifartuiError, match=r"give it --budget (\d+)m or more") as caught:
        search(time_s=20)
    minutes = int(str(caught.value).split("--budget ")[1].split("m")[0])
    assert len(search(time_s=60 * minutes).grid.places) >= 3


def test_a_grid_is_about_the_presets_rate_or_between_given_ones() -> None:
    about = grid_of(0.01, None, None)
    assert [about.rate(place) for place in about.places] == [
        0.000625, 0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16,
    ]  # fmt: skip
    given = grid_of(0.01, 1e-4, 0.1)
    rates = [given.rate(place) for place in given.places]
    assert (rates[0], rates[-1]) == (1e-4, 0.1)
    assert all(1.7 < after / before <= 2.01 for before, after in pairwise(rates))
    assert not given.holds(-1)
    assert grid_of(0.01, 0.002, None).rate(0) == 0.002
    half = Grid(middle=0.01, places=(0.0,))
    assert (half.rate(0.5), half.rate(-0.5)) == (0.0141, 0.00707)


@pytest.mark.parametrize("ends", [(1.0, 0.1), (0.0, 1.0), (-1.0, None), (0.1, 1e9), (math.nan, 1.0), (0.1, math.nan)])
def test_ends_that_are_none_are_refused(ends: tuple[float | None, float | None]) -> None:
    with pytest.raises(CifartuiError, match="give others with --from and --to"):
        grid_of(0.01, *ends)


def test_divergence_is_a_loss_four_times_that_of_the_start_and_not_one_bad_batch() -> None:
    assert not has_diverged([])
    assert not has_diverged([4.6] * 3 + [4.0, 3.0])
    assert not has_diverged([0.7] * 3 + [0.1] * 20 + [2.0])  # far above its lowest, and near the start's
    assert not has_diverged([4.6] * 20 + [60.0])
    assert has_diverged([4.6] * 20 + [60.0] * 3)
