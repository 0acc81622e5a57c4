"""Group of runs as one row: of several seeds, by mean and deviation and mean curves, or of a search. No I/O.

Of a learning-rate search the row has what its best run came to, among those that trained longest.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from engine.journal.state import EpochPoint
from engine.runs.run_dir import Status
from engine.runs.seed_groups import Spread, group_key, grouped, is_search, spread_of
from tui.data.summary import RunCurves, SortKey, Summary, matches, ordered
from tui.text.run_name import Words, words_of
from tui.text.run_text import is_live


class SeedGroup(Struct, frozen=True, kw_only=True, dict=True):
    """At least two runs of a group that are there, by seed. Its values are those of a run, summed up."""

    id: str
    members: tuple[Summary, ...]

    @property
    def preset_name(self) -> str:
        """The preset of all members."""
        return self.members[0].preset_name

    @property
    def words(self) -> Words:
        """Settings of all members that are not their preset's, in short words."""
        if not self.is_search:
            return words_of(self.members[0].overrides)
        first, *others = self.members
        return ("lr-find", *(word for word in first.words if all(word in run.words for run in others)))

    @property
    def is_search(self) -> bool:
        """True for the short runs of a learning-rate search."""
        return is_search(self.members[0].group)

    @property
    def counted(self) -> tuple[Summary, ...]:
        """The members that mean and deviation are over: those that completed, or all as long as none has.

        Of a search that is the best one of those with the most batches.
        """
        completed = tuple(run for run in self.members if run.status == "completed")
        if self.is_search and completed:
            return (max(completed, key=lambda run: (run.global_step, run.best_val_top1 or 0.0, run.id)),)
        return completed or self.members

    @cached_property
    def val(self) -> Spread | None:
        """Best validation accuracy over `counted`, as fractions."""
        return spread_of(run.best_val_top1 for run in self.counted)

    @cached_property
    def test(self) -> Spread | None:
        """Test accuracy over `counted`, as fractions."""
        return spread_of(run.test_top1 for run in self.counted)

    @property
    def best_val_top1(self) -> float | None:
        """Mean of the best validation accuracies."""
        return self.val.mean if self.val is not None else None

    @property
    def test_top1(self) -> float | None:
        """Mean of the test accuracies."""
        return self.test.mean if self.test is not None else None

    @property
    def status(self) -> Status:
        """Status of a living member, else of one that did not complete, else "completed"."""
        living: list[Status] = [run.status for run in self.members if is_live(run.status)]
        others: list[Status] = [run.status for run in self.members if run.status != "completed"]
        return (living or others or [self.members[0].status])[0]

    @property
    def shown(self) -> Summary:
        """The newest of `counted`, which stands for the group where one run is asked for."""
        return max(self.counted, key=lambda run: (run.created, run.id))

    @property
    def best_val_balanced(self) -> float | None:
        """Mean of the balanced accuracies of the best epochs; None where classes are even."""
        return _mean(run.best_val_balanced for run in self.counted)

    @property
    def test_balanced(self) -> float | None:
        """Mean of the balanced test accuracies; None where classes are even."""
        return _mean(run.test_balanced for run in self.counted)

    @property
    def pflop(self) -> float | None:
        """PFLOP that a run has spent: the mean over `counted`; None unless it is known of all."""
        return _mean(run.pflop for run in self.counted) if all(run.flops for run in self.counted) else None

    @property
    def created(self) -> float:
        """Unix seconds at which the newest member was made."""
        return max(run.created for run in self.members)

    @property
    def duration_s(self) -> float | None:
        """Seconds that the workers of all members have worked."""
        return _sum(run.duration_s for run in self.members)

    @property
    def num_bytes(self) -> int | None:
        """Size of all members on disk."""
        found = _sum(run.num_bytes for run in self.members)
        return None if found is None else int(found)

    @property
    def host(self) -> str:
        """Host of all members; empty if there are several."""
        hosts = {run.host for run in self.members}
        return hosts.pop() if len(hosts) == 1 else ""

    @property
    def no_test(self) -> str:
        """A word in place of the test accuracy, as of a run."""
        return self.members[0].no_test


Listed: TypeAlias = Summary | SeedGroup
"""A row of a list of runs."""


def _mean(values: Iterable[float | None]) -> float | None:
    spread = spread_of(values)
    return spread.mean if spread is not None else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def with_groups(runs: Sequence[Summary], *, searches: bool = True) -> list[Listed]:
    """Return the runs, those of a group as one SeedGroup in the place of its first; a lone member stays a run.

    Without `searches` so do the runs of a search.
    """
    rows: list[Listed] = []
    for members in grouped(runs, lambda run: _key_of(run) if searches or not is_search(run.group) else ()):
        if len(members) == 1:
            rows.append(members[0])
        else:
            by_seed = tuple(sorted(members, key=lambda run: (run.seed, run.created, run.id)))
            rows.append(SeedGroup(id=" ".join(("group", *_key_of(members[0]))), members=by_seed))
    return rows


def _key_of(run: Summary) -> tuple[str, ...]:
    return group_key(run.group, run.preset_name, run.overrides)


def table_rows(
    runs: Sequence[Summary], wanted: str, key: SortKey, opened: Container[str], *, rising: bool
) -> list[Listed]:
    """Return runs and groups that the filter `wanted` lets through, sorted; the members of an open group behind it.

    Args:
        runs: of the table.
        wanted: words; a group has them if one of its members has.
        key: to sort by.
        opened: ids of the groups that are open.
        rising: the lowest value first.
    """
    found = [row for row in with_groups(runs) if any(matches(run, wanted) for run in members_of(row))]
    rows: list[Listed] = []
    for row in ordered(found, key, rising=rising):
        rows.append(row)
        if isinstance(row, SeedGroup) and row.id in opened:
            rows += row.members
    return rows


def members_of(row: Listed) -> tuple[Summary, ...]:
    """Return the members of a group; of a run itself."""
    return row.members if isinstance(row, SeedGroup) else (row,)


def run_ids(ids: Iterable[str], known: Mapping[str, Listed]) -> list[str]:
    """Return the ids of runs, those of all members in the place of a group's, each once.

    `known` has the rows by id. An id that it lacks, of a damaged run, stands for itself.
    """
    found = dict[str, None]()
    for row_id in ids:
        row = known.get(row_id)
        found.update(dict.fromkeys([row_id] if row is None else [run.id for run in members_of(row)]))
    return list(found)


class MeanCurves(Struct, frozen=True):
    """Curves of a group by epoch: the mean, and one deviation below and above it."""

    mean: RunCurves
    low: tuple[EpochPoint, ...]
    high: tuple[EpochPoint, ...]


_AVERAGED = ("train_loss", "train_top1", "val_loss", "val_top1")


def mean_curves(curves: Sequence[RunCurves]) -> MeanCurves:
    """Return the mean curves of several runs; an epoch that some have not trained is averaged over the others.

    Where only one has trained it, low and high are its value: one run has no deviation.
    """
    by_epoch: dict[float, list[EpochPoint]] = {}
    for each in curves:
        for point in each.epochs:
            if all(math.isfinite(getattr(point, name)) for name in _AVERAGED):
                by_epoch.setdefault(point.epoch, []).append(point)
    found: list[tuple[EpochPoint, EpochPoint, EpochPoint]] = []
    for _, points in sorted(by_epoch.items()):
        spreads = {name: spread for name in _AVERAGED if (spread := _spread(points, name)) is not None}
        made: list[EpochPoint] = []
        for sign in (0.0, -1.0, 1.0):
            values = {name: each.mean + sign * (each.std or 0.0) for name, each in spreads.items()}
            made.append(replace(points[0], **values))
        found.append((made[0], made[1], made[2]))
    total = max(each.total_epochs for each in curves)
    is_over = all(each.is_over for each in curves)
    mean = RunCurves(tuple(each[0] for each in found), total, curves[0].report, is_over)
    return MeanCurves(mean, tuple(each[1] for each in found), tuple(each[2] for each in found))


def _spread(points: Sequence[EpochPoint], name: str) -> Spread | None:
    of: Callable[[EpochPoint], float] = lambda point: getattr(point, name)  # noqa: E731
    return spread_of(map(of, points))
