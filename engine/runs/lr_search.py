"""Search for a learning rate by successive halving: which short run comes next, and what is found. No files.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (2016); Li et al.,
"Hyperband" (2018). A rung trains several rates for the same number of epochs, each from the beginning through the
preset's whole schedule; the better half is trained again for about twice as many. If the best rate of a rung is the
smallest or the largest of it, one rate further is trained too, as far as the time allows; in the last rung so are the
rates half a step beside the best.

Everything follows from the search and its trials so far, the seconds that they took included: a search that was
interrupted goes on as if it had not been.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from presets.checks import LARGEST_LR
from presets.errors import CifartuiError
from presets.short_run import Length

STEP = 2.0
"""Factor between neighbouring rates: with half a step at the end, the best one is missed by a fifth at most."""
MOST_RATES = 9
_FEWEST_RATES = 3
"""Of a rung: a best rate between two that are worse."""
_LENGTHENS = 2.0
"""Factor between the epochs of a rung and of the next."""
_LEAST_LENGTHENED = 1.2
"""Factor below which another rung would say nothing new."""
_FEWEST_STEPS = 50
"""Batches of a run, or a quarter of the whole training's: with fewer, warm-up and decay are a few batches each."""
_SPENT = 0.9
"""Of the budget, planned for: no run takes exactly as long as the one before."""
_FOR_EDGE = 0.25
"""Of the time left, which a rate beyond the edge of a rung may take where longer rungs are to follow."""
_TRAILING = 0.8
"""Weight of the earlier reports in the average that decides about divergence."""
_DIVERGED = 4.0
"""Times the loss of the first reports, which is about that of a guess: a training that is there is of no use."""
_FIRST_REPORTS = 3

Trials: TypeAlias = Mapping[tuple[float, Length], "Trial"]


class Cost(Struct, frozen=True):
    """Seconds that runs of a preset take: before training and after it, for a training image, and for a validation."""

    start_s: float
    image_s: float
    validation_s: float

    def seconds(self, length: Length) -> float:
        """Return the seconds of a run of that length."""
        return self.start_s + length.epochs * (length.num_images * self.image_s + self.validation_s)


class Trial(Struct, frozen=True, kw_only=True):
    """A short run that is over: what its rate came to."""

    lr: float
    length: Length
    accuracy: float | None
    """Best validation accuracy, a fraction; None if it diverged."""
    loss: float = math.inf
    """Validation loss of that epoch; between equal accuracies it decides."""
    seconds: float
    cost: Cost | None = None
    """None if it diverged: it says nothing about the time of others."""
    run: str = ""
    """Id of the run."""

    @property
    def reached(self) -> float:
        """The accuracy; 0 if it diverged."""
        return self.accuracy or 0.0

    @property
    def merit(self) -> tuple[float, float]:
        """A key by which the better trial is the greater one."""
        return (-1.0 if self.accuracy is None else self.accuracy, -self.loss)


class Grid(Struct, frozen=True, kw_only=True):
    """Rates a factor of `step` apart; `places` are those to begin with, counted in steps from `middle`."""

    middle: float
    step: float = STEP
    places: tuple[float, ...]
    lowest: float = 0.0
    """No rate below is tried; nor one above `highest`."""
    highest: float = LARGEST_LR

    def rate(self, place: float) -> float:
        """Return the rate at a place, in three figures."""
        return float(f"{self.middle * self.step**place:.3g}")

    def holds(self, place: float) -> bool:
        """Return true if the rate at a place may be tried."""
        return self.lowest <= self.rate(place) <= self.highest and self.rate(place) > 0

    def thinned(self) -> "Grid | None":
        """Return a grid with fewer rates: without the outer ones, or further apart within given ends; None if few."""
        if len(self.places) <= _FEWEST_RATES:
            return None
        if not self._has_ends:
            return Grid(middle=self.middle, step=self.step, places=self.places[1:-1])
        num = max(_FEWEST_RATES, round(0.75 * len(self.places)))
        return between(self.lowest, self.highest, num)

    @property
    def _has_ends(self) -> bool:
        return self.lowest > 0


def grid_of(lr: float, first: float | None, last: float | None) -> Grid:
    """Return the rates to begin with: about `lr`, that of the preset, or from `first` to `last` where both are given.

    Raises:
        CifartuiError: the rates are not two positive numbers, the smaller one first.
    """
    half = MOST_RATES // 2
    if first is None and last is None:
        return Grid(middle=lr, places=tuple(range(-half, half + 1)))
    if first is None and last is not None:
        first = min(lr, last) / STEP**half
    elif last is None and first is not None:
        last = max(lr, first) * STEP**half
    assert first is not None
    assert last is not None
    if not 0 < first < last <= LARGEST_LR:
        raise CifartuiError(
            f"A search goes from a learning rate above 0 up to a larger one, at most {LARGEST_LR:g}, not from "
            f"{first:g} to {last:g}; give others with --from and --to."
        )
    return between(first, last, max(_FEWEST_RATES, 1 + math.ceil(math.log(last / first, STEP) - 1e-6)))


def between(first: float, last: float, num_rates: int) -> Grid:
    """Return so many rates from `first` to `last`, beyond which nothing is tried."""
    step = (last / first) ** (1 / (num_rates - 1))
    ends = (float(f"{first:.3g}"), float(f"{last:.3g}"))
    return Grid(middle=first, step=step, places=tuple(range(num_rates)), lowest=ends[0], highest=ends[1])


class Search(Struct, frozen=True, kw_only=True):
    """A search as it was begun: what was known of the preset and of its time before the first rung."""

    grid: Grid
    num_images: int
    """For training, in an epoch of the preset."""
    whole_epochs: int
    """Of the preset, or of its first stage."""
    batch_size: int
    cost: Cost
    """As measured before the first rung."""
    time_s: float
    """For all runs together; what it took to measure the cost is taken off."""
    num_val: int
    """Validation images, which the accuracies are of."""

    @property
    def least_epochs(self) -> float:
        """Length of the shortest run that says anything, in epochs."""
        return min(self.whole_epochs / 4, _FEWEST_STEPS * self.batch_size / self.num_images)

    def length(self, epochs: float) -> Length:
        """Return the length of a run of about so many epochs: whole ones, or several of a part of the images."""
        epochs = min(epochs, self.whole_epochs)
        if epochs >= _FEWEST_RATES or epochs == int(epochs):
            return Length(int(epochs), self.num_images)
        whole = math.ceil(epochs)
        batches = max(1, int(epochs * self.num_images / whole / self.batch_size))
        return Length(whole, min(self.num_images, batches * self.batch_size))

    def epochs(self, length: Length) -> float:
        """Return a length in epochs of all images."""
        return length.epochs * length.num_images / self.num_images


class Rung(Struct, kw_only=True):
    """Runs of the same length, at rising rates."""

    length: Length
    places: list[float]
    """On the grid, of all rates that are to be trained so far."""
    trials: list[Trial]
    """Of those that are over."""

    @property
    def best(self) -> Trial | None:
        """The best trial; None if none is over, or all diverged."""
        best = max(self.trials, key=lambda trial: trial.merit, default=None)
        return None if best is None or best.accuracy is None else best


class Progress(Struct, frozen=True, kw_only=True):
    """A search so far."""

    rungs: list[Rung]
    """Those begun."""
    to_come: list[tuple[int, Length]]
    """Rungs planned behind them: number of rates, and length."""
    seconds_left: float
    """For all runs that are planned, by what was measured."""
    next: tuple[float, Length] | None
    """The run to train now, as rate and length; None if the search is over."""


class Found(Struct, frozen=True, kw_only=True):
    """The learning rate that a search found; `lr` is None if it found none; `reason` says why, either way."""

    lr: float | None
    reason: str


def planned(search: Search) -> Search:
    """Return the search with as many rates as its time allows for, each rung of them longer than the one before.

    Raises:
        CifartuiError: it is too short for three.
    """
    grid: Grid | None = search.grid
    while grid is not None:
        fewer = replace(search, grid=grid)
        counts = _counts(len(grid.places))
        rungs = _rungs(fewer, counts, fewer.least_epochs, fewer.time_s, fewer.cost)
        if rungs and (len(rungs) == len(counts) or rungs[-1][1] == search.length(search.whole_epochs)):
            return fewer
        smallest, grid = fewer, grid.thinned()
    shortest = search.length(search.least_epochs)
    least_s = (sum(_counts(len(smallest.grid.places))) + 1) * search.cost.seconds(shortest) / _SPENT
    raise CifartuiError(
        f"The shortest run that says anything ({in_words(shortest, search.num_images)}) takes about "
        f"{search.cost.seconds(shortest):.0f} s, too long for a search in this time; give it "
        f"--budget {math.ceil(1.25 * least_s / 60)}m or more."
    )


def progress_of(search: Search, trials: Trials) -> Progress:
    """Return how far a search is, and the run that comes next, by the trials that are over."""
    rungs: list[Rung] = []
    places, time_s, cost = list(search.grid.places), search.time_s, search.cost
    coming = _rungs(search, _counts(len(places)), search.least_epochs, time_s, cost)
    while coming and places:
        (_, length), *to_come = coming
        rung = Rung(length=length, places=places, trials=[])
        rungs.append(rung)
        queue = places
        while queue:
            left = [place for place in queue if (search.grid.rate(place), length) not in trials]
            done = [trials[search.grid.rate(place), length] for place in queue if place not in left]
            rung.trials = sorted([*rung.trials, *done], key=lambda trial: trial.lr)
            time_s -= sum(trial.seconds for trial in done)
            cost = _measured(rung.trials, cost)
            if left:
                seconds_left = len(left) * cost.seconds(length) + sum(num * cost.seconds(each) for num, each in to_come)
                now = (search.grid.rate(left[0]), length)
                return Progress(rungs=rungs, to_come=to_come, seconds_left=seconds_left, next=now)
            queue = _further(search, rungs, time_s, cost.seconds(length), is_last=not to_come)
            rung.places = sorted([*rung.places, *queue])
        places, coming = [], []
        if to_come:
            least = min(search.whole_epochs, _LEAST_LENGTHENED * search.epochs(length))
            counts = [num for num, _ in to_come]
            coming = _rungs(search, counts, least, time_s, cost) or _rungs(search, counts[-1:], least, time_s, cost)
            places = _kept(search, rung, coming[0][0]) if coming else []
    return Progress(rungs=rungs, to_come=[], seconds_left=0.0, next=None)


def _counts(num_rates: int) -> list[int]:
    """Return the number of rates of each rung: half of the one before, at least three."""
    counts = [num_rates]
    while counts[-1] > _FEWEST_RATES:
        counts.append(max(_FEWEST_RATES, math.ceil(counts[-1] / 2)))
    return counts


def _rungs(search: Search, counts: Sequence[int], least: float, time_s: float, cost: Cost) -> list[tuple[int, Length]]:
    """Return rungs, as numbers of rates and lengths, that fit into a time, with one run more in the last; or none.

    Each is about twice as long as the one before, the last no longer than the preset trains, and none shorter than
    `least` epochs; those that would be hardly longer than the one before are left out.
    """

    def fitting(last: float) -> list[tuple[int, Length]] | None:
        found: list[tuple[int, Length]] = []
        for number, count in enumerate(counts):
            length = search.length(max(least, last / _LENGTHENS ** (len(counts) - 1 - number)))
            if not found or search.epochs(length) >= _LEAST_LENGTHENED * search.epochs(found[-1][1]):
                found.append((count, length))
        seconds = sum(num * cost.seconds(length) for num, length in found) + cost.seconds(found[-1][1])
        return found if seconds <= _SPENT * time_s else None

    low, high = least, float(search.whole_epochs)
    found = fitting(high) or fitting(low)
    if found is None or fitting(high) is not None:
        return found or []
    for _ in range(40):
        middle = (low + high) / 2
        longer = fitting(middle)
        low, high, found = (middle, high, longer) if longer is not None else (low, middle, found)
    return found


def _measured(trials: Sequence[Trial], before: Cost) -> Cost:
    """Return the cost of runs by the median of these."""
    costs = [trial.cost for trial in trials if trial.cost is not None]
    if not costs:
        return before
    return Cost(*(median(getattr(cost, name) for cost in costs) for name in Cost.__struct_fields__))


def _kept(search: Search, rung: Rung, num: int) -> list[float]:
    """Return the places of the best rates of a rung, without those that diverged."""
    by_rate = {trial.lr: trial for trial in rung.trials}
    best = sorted(rung.places, key=lambda place: by_rate[search.grid.rate(place)].merit, reverse=True)
    learned = [place for place in best if by_rate[search.grid.rate(place)].accuracy is not None]
    return sorted(learned[:num])


def _further(search: Search, rungs: Sequence[Rung], time_s: float, run_s: float, *, is_last: bool) -> list[float]:
    """Return the places that a rung is to train besides its own: one beyond its edge, or two beside the best."""
    rung, grid = rungs[-1], search.grid
    if run_s > (time_s if is_last else _FOR_EDGE * time_s):
        return []
    beyond = _beyond_edge(search, rungs)
    if beyond is not None:
        return [beyond]
    at = _place_of_best(search, rung)
    if not is_last or at is None or 2 * run_s > time_s or rung.best is None:
        return []
    below, above = at - 0.5, at + 0.5
    tried = {grid.rate(place) for place in rung.places}
    is_half = at != int(at) or {grid.rate(below), grid.rate(above)} & tried
    return [] if is_half or not (grid.holds(below) and grid.holds(above)) else [below, above]


def _beyond_edge(search: Search, rungs: Sequence[Rung]) -> float | None:
    """Return the place beyond the edge of a rung if its best rate lies there; None elsewhere, or if it diverged."""
    rung, grid = rungs[-1], search.grid
    at = _place_of_best(search, rung)
    if at is None or at == rung.places[0]:
        beyond = rung.places[0] - 1  # also where all diverged
    elif at == rung.places[-1]:
        beyond = at + 1
    else:
        return None
    diverged = {trial.lr for earlier in rungs for trial in earlier.trials if trial.accuracy is None}
    rate = grid.rate(beyond)
    return beyond if grid.holds(beyond) and (beyond < rung.places[0] or rate not in diverged) else None


def _place_of_best(search: Search, rung: Rung) -> float | None:
    best = rung.best
    return None if best is None else next(at for at in rung.places if search.grid.rate(at) == best.lr)


# --- what is found ---------------------------------------------------------------------------------


def found(search: Search, rungs: Sequence[Rung]) -> Found:
    """Return the rate of the longest runs that came to the best accuracy, and the reason in a sentence or two."""
    judged = [rung for rung in rungs if rung.trials]
    if not judged:
        return Found(lr=None, reason="No run is over yet.")
    rung = judged[-1]
    best = rung.best
    if best is None:
        lowest = min(trial.lr for each in judged for trial in each.trials)
        return Found(lr=None, reason=f"Every rate down to {lowest:g} diverged: try --to {lowest / STEP:.1g}.")
    ties = [list(_within_noise(search, each)) for each in judged]
    noise = f"within the noise of {search.num_val:,} validation images"
    if all(len(tied) == len(each.trials) - 1 > 0 for tied, each in zip(ties, judged, strict=True)):
        rates = [trial.lr for trial in judged[0].trials]
        return Found(
            lr=None,
            reason=f"In such short runs the rates from {min(rates):g} to {max(rates):g} do not differ "
            f"(all are {noise}): give it a larger --budget.",
        )
    length = in_words(rung.length, search.num_images)
    of = f"the best of {len(rung.trials)} rates" if len(rung.trials) > 1 else "the only rate"
    sentences = [f"It came to {100 * best.reached:.1f} % val in {length}, {of} trained so long."]
    if tied := ties[-1]:
        named = " and ".join(f"{trial.lr:g} ({100 * trial.reached:.1f} %)" for trial in tied)
        verb = "is" if len(tied) == 1 else "are"
        sentences.append(f"{named} {verb} {noise} (± {100 * _noise(search, best):.1f} points).")
    if beyond := _untried_edge(search, judged):
        sentences.append(beyond)
    return Found(lr=best.lr, reason=" ".join(sentences))


def _within_noise(search: Search, rung: Rung) -> Iterator[Trial]:
    """Yield the trials of a rung that are within one standard error of the best, which is none of them."""
    best = rung.best
    if best is None:
        return
    for trial in rung.trials:
        is_other = trial is not best and trial.accuracy is not None
        if is_other and best.reached - trial.reached <= _noise(search, best):
            yield trial


def _noise(search: Search, trial: Trial) -> float:
    """Return the standard error of the difference of two accuracies about that of `trial`, each of all images."""
    num = search.num_val
    share = (trial.reached * num + 1) / (num + 2)  # not 0 where all, or none, are right
    return math.sqrt(2 * share * (1 - share) / num)


def _untried_edge(search: Search, rungs: Sequence[Rung]) -> str:
    """Return a sentence if the best rate is the smallest or largest that was trained so long; else nothing."""
    beyond = _beyond_edge(search, rungs)
    places = rungs[-1].places
    if beyond is None:
        at = _place_of_best(search, rungs[-1])
        is_low, is_high = at == places[0], at == places[-1]
        if not (is_low or is_high) or (is_high and search.grid.holds(places[-1] + 1)):  # what is beyond diverged
            return ""
        name = "--from" if is_low else "--to"
        return f"It is the {'smallest' if is_low else 'largest'} that was to be tried: give another {name}."
    which = "smaller" if beyond < places[0] else "larger"
    return f"A {which} rate may be better, for which there was no time: give it a larger --budget."


def in_words(length: Length, num_images: int) -> str:
    """Return "4 epochs", or "2 epochs of 18,000 images"."""
    epochs = f"{length.epochs} epoch{'' if length.epochs == 1 else 's'}"
    return epochs if length.num_images >= num_images else f"{epochs} of {length.num_images:,} images"


def has_diverged(losses: Sequence[float]) -> bool:
    """Return true if the loss of a run's reports, averaged over the last few, is four times that of its start."""
    if len(losses) <= _FIRST_REPORTS:
        return False
    start = sum(losses[:_FIRST_REPORTS]) / _FIRST_REPORTS
    average = weight = 0.0
    for loss in losses:
        average, weight = _TRAILING * average + (1 - _TRAILING) * loss, _TRAILING * weight + 1 - _TRAILING
    return average / weight > _DIVERGED * start
