"""Seed groups: runs of one preset with the same settings and several seeds, and mean ± std over them. No I/O.

A run of a group has the group's id in its run.json (`RunInfo.group`), a queue entry the same in queue.json. The short
runs of a learning-rate search (`engine.runs.lr_trials`) share an id too, which tells them from seeds.
"""

import os
import re
from collections.abc import Callable, Iterable
from statistics import mean, stdev
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from engine.runs.run_options import SEED_BELOW, RunOptions
from presets.errors import CifartuiError
from presets.problems import printable

MOST_SEEDS = 100
"""In one group: each is a whole training."""
SEARCH = "lr-"
"""Beginning of the id that the runs of a learning-rate search share."""
_NUMBER, _LIST = re.compile("[0-9]{1,10}"), re.compile("[0-9]{1,10}( *, *[0-9]{1,10})+")
_EXAMPLE = "write how many, such as 3, or which, such as 1,2,5"

_Run = TypeVar("_Run")


class Spread(Struct, frozen=True):
    """Mean of a metric over runs, its sample standard deviation (over n - 1; None for one run), and n."""

    mean: float
    std: float | None
    n: int


def parse_seeds(text: str, first: int = 0) -> tuple[int, ...]:
    """Return the seeds that `text` names: "3" is `first` and the two after it, "1,2,5" are these.

    Raises:
        CifartuiError: it names none, too many, one twice, or one that is no seed; a list, where `first` is not 0.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        count = int(text)
        if not 1 <= count <= MOST_SEEDS:
            raise CifartuiError(f"seeds are from 1 to {MOST_SEEDS} in number, not {count:,}; {_EXAMPLE}.")
        seeds = tuple(range(first, first + count))
    elif _LIST.fullmatch(text):
        if first:
            raise CifartuiError(
                "seeds listed one by one need no first seed; leave seed at 0, or write how many, such as 3."
            )
        seeds = tuple(int(each) for each in text.split(","))
        twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
        if twice is not None:
            raise CifartuiError(f"seeds name {twice} twice, which would be the same run; leave one of them out.")
        if len(seeds) > MOST_SEEDS:
            raise CifartuiError(f"seeds are at most {MOST_SEEDS} in number, not {len(seeds):,}.")
    else:
        raise CifartuiError(f"seeds cannot be {printable(text, longest=60)!r}; {_EXAMPLE}.")
    if max(seeds) >= SEED_BELOW:
        raise CifartuiError(f"seeds are whole numbers from 0 to {SEED_BELOW - 1:,}, not {max(seeds):,}.")
    return seeds


def each_seed(options: RunOptions) -> tuple[RunOptions, ...]:
    """Return the options of every run that `options` ask for: one a seed, with the id of a new group if they are many.

    To be called once a preset: runs of different presets belong to different groups.
    """
    if not options.seeds:
        return (options,)
    group = os.urandom(6).hex() if len(options.seeds) > 1 else ""
    return tuple(replace(options, seed=seed, seeds=(), group=group) for seed in options.seeds)


def group_key(group: str, preset_name: str, overrides: Iterable[str]) -> tuple[str, ...]:
    """Return what the runs of a group have in common; empty if a run stands alone.

    A resume with changes takes a run out of its group: it no longer differs in its seed alone. Runs of a search differ
    in their settings.
    """
    if is_search(group):
        return (group, preset_name)
    return (group, preset_name, *overrides) if group else ()


def is_search(group: str) -> bool:
    """Return true for the id of a group whose runs belong to a learning-rate search, not to several seeds."""
    return group.startswith(SEARCH)


def grouped(runs: Iterable[_Run], group_of: Callable[[_Run], object]) -> list[tuple[_Run, ...]]:
    """Return runs in groups, each at the place of its first run, those of a group in their order.

    Args:
        runs: of any kind.
        group_of: returns what the runs of a group have in common: something hashable, false if it stands alone.
    """
    groups: dict[object, list[_Run]] = {}
    for number, run in enumerate(runs):
        common = group_of(run)
        groups.setdefault((common,) if common else number, []).append(run)
    return [tuple(members) for members in groups.values()]


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Return mean, sample standard deviation and number of the values that are there; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(mean(known), stdev(known) if len(known) > 1 else None, len(known))
