"""Several runs of a report beside each other: those that differ in their seeds alone, and data that is not the same.

Imports no template engine: others that compare runs may use it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from tui.report.content import SPLIT_NAMES, RunReport


@dataclass(frozen=True)
class Group:
    """Several runs of one preset that differ in their seeds: mean and sample standard deviation of top-1 by split."""

    name: str
    num_runs: int
    top1: dict[str, tuple[float, float]]


def groups_of(runs: Sequence[RunReport]) -> list[Group]:
    """Return the groups of at least two runs that were trained to their ends with different seeds."""
    found: dict[tuple[str, ...], dict[int, RunReport]] = defaultdict(dict)
    for run in runs:
        if run.status == "completed" and run.verdict is None:
            found[run.group][run.seed] = run
    groups = []
    for members in found.values():
        if len(members) < 2:
            continue
        top1 = {}
        for split in SPLIT_NAMES.values():
            values = [scored.top1 for run in members.values() if (scored := run.of(split)) is not None]
            if len(values) == len(members):
                top1[split] = (mean(values), stdev(values))
        first = next(iter(members.values()))
        groups.append(Group(" ".join((first.title, *first.changes)), len(members), top1))
    return groups


def differing_data(runs: Sequence[RunReport]) -> str:
    """Return a sentence about images that are not the same in all runs, and what compares; empty if all are."""
    known = [run.images for run in runs if run.images]
    names = ("training", *SPLIT_NAMES.values())
    differing = [name for name in names if len({images.get(name) for images in known}) > 1]
    if not differing:
        return ""
    said = differing[0] if len(differing) == 1 else f"{', '.join(differing[:-1])} and {differing[-1]}"
    measured = [name for name in names[1:] if any(name in images for images in known)]
    same = [name for name in measured if name not in differing]
    advice = f"compare them by their {same[-1]} images" if same else "their accuracies do not compare"
    return f"These runs do not have the same {said} images: {advice}."
