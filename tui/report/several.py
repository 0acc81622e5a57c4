"""Several runs of a report beside each other: those that differ in their seeds alone, and data that is not the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.runs.seed_groups import Spread, grouped, spread_of
from tui.report.content import RunReport
from tui.report.evaluated import SPLIT_NAMES


@dataclass(frozen=True)
class Group:
    """Several runs of one preset that differ in their seeds: top-1 over them, by split."""

    name: str
    num_runs: int
    top1: dict[str, Spread]
    """Of splits that were measured in all of them."""
    pflop: float | None
    """PFLOP that one has spent, the mean; None unless it is known of all."""


def groups_of(runs: Sequence[RunReport]) -> list[Group]:
    """Return the groups of at least two runs that were trained to their ends with different seeds."""
    trained = [run for run in runs if run.status == "completed" and run.verdict is None]
    groups = []
    for alike in grouped(trained, lambda run: run.group):
        members = tuple({run.seed: run for run in alike}.values())
        if len(members) > 1:
            name = " ".join((members[0].title, *members[0].changes))
            groups.append(Group(name, len(members), _top1_of(members), _pflop_of(members)))
    return groups


def _pflop_of(runs: Sequence[RunReport]) -> float | None:
    found = spread_of(run.pflop for run in runs)
    return found.mean if found is not None and found.n == len(runs) else None


def _top1_of(runs: Sequence[RunReport]) -> dict[str, Spread]:
    spreads = {}
    for split in SPLIT_NAMES.values():
        found = spread_of(scored.top1 if (scored := run.of(split)) is not None else None for run in runs)
        if found is not None and found.n == len(runs):
            spreads[split] = found
    return spreads


Table: TypeAlias = list[tuple[str, str]]
"""Labels and values."""


@dataclass(frozen=True)
class InCommon:
    """Facts and settings that are the same in all runs of a report; none if there is only one."""

    facts: Table
    settings: Table

    def own(self, run: RunReport) -> tuple[Table, Table]:
        """Return the facts and the settings of a run that are not those of all."""
        return (
            [row for row in run.facts if row not in self.facts],
            [row for row in run.settings if row not in self.settings],
        )


def in_common(runs: Sequence[RunReport]) -> InCommon:
    """Return the facts and settings that all runs have alike."""
    if len(runs) < 2:
        return InCommon([], [])
    first, *others = runs
    return InCommon(
        [row for row in first.facts if all(row in run.facts for run in others)],
        [row for row in first.settings if all(row in run.settings for run in others)],
    )


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
