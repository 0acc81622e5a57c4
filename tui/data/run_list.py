"""All runs of a folder in summaries, kept up to date at little cost: for Home, the ablation's table and Runs.

Knows files and time; knows nothing of widgets. What a finished run was found to be is kept, and read again only
when its journal has changed; a run under way is read on from where reading stopped.
"""

import calendar
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct
from textual.message import Message

from engine.journal.events import AnyEvent
from engine.journal.jsonl import LineReader
from engine.journal.outline import forget_curves, outline_reader
from engine.journal.state import EpochPoint, RunState, fold
from engine.runs import run_dir as runs
from engine.runs.delete import size_bytes
from engine.runs.run_dir import RunDir, RunInfo
from presets.errors import CifartuiError
from presets.schema import Report
from tui.data.summary import Summary, summary_of

RECENT = 50
"""How many runs Home and the ablation's table know."""
_TOLD_EVERY = 25
"""While there is much to read, what is known is told after so many runs read."""
_FileStamp: TypeAlias = tuple[int, int] | None
"""Size and time of change of a file; None where it is absent."""


class RunCurves(Struct, frozen=True):
    """What a run's epochs have shown, to be drawn over those of others."""

    epochs: tuple[EpochPoint, ...]
    total_epochs: int
    report: Report


class Damaged(Struct, frozen=True):
    """A run directory whose run.json cannot be read, and why. `created` is Unix seconds, as its name tells."""

    id: str
    problem: str
    created: float
    num_bytes: int

    @property
    def reason(self) -> str:
        """The problem without the folder's path, where that stands before it."""
        return self.problem.partition(": ")[2] or self.problem


@dataclass
class RunsListed(Message):
    """The newest runs, newest first, and how many there are in all."""

    runs: tuple[Summary, ...]
    num_all: int
    damaged: tuple[Damaged, ...] = ()
    curves: dict[str, RunCurves] = field(default_factory=dict)
    """By id."""
    num_unread: int = 0
    """Of those to be told, how many were not looked at yet."""


@dataclass
class _Known:
    """A run as last seen. `follower` is what it is read on with; None once it is finished."""

    stamps: _FileStamp
    summary: Summary
    curves: RunCurves
    follower: "_Follower | None"


@dataclass
class _Follower:
    info: RunInfo
    reader: LineReader[AnyEvent]
    state: RunState


class RunLister:
    """Summarises the newest runs, or all. Used in one thread."""

    def __init__(self, runs_dir: Path, now: Callable[[], float], only: str = "", limit: int | None = RECENT) -> None:
        """List the runs of `runs_dir` whose id holds `only`, the newest `limit`; `now` is asked for Unix seconds."""
        self._runs_dir, self._now, self._only, self._limit = runs_dir, now, only, limit
        self._known: dict[str, _Known] = {}
        self._damaged: dict[str, tuple[tuple[_FileStamp, _FileStamp], Damaged]] = {}

    def list(self) -> RunsListed:
        """Read what is new and return the runs."""
        *_, listed = self.refresh()
        return listed

    def refresh(self) -> Iterator[RunsListed]:
        """Read what is new; yield what is known so far now and then, and all of it last."""
        found = [run for run in runs.list_runs(self._runs_dir) if self._only in run.id]
        chosen = found[: self._limit]
        ids = {run.id for run in chosen}
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in ids}
        self._damaged = {run_id: known for run_id, known in self._damaged.items() if run_id in ids}
        num_read = 0
        for number, run in enumerate(chosen):
            if self._update(run):
                num_read += 1
                if num_read % _TOLD_EVERY == 0:
                    yield self._told(chosen, len(found), len(chosen) - number - 1)
        yield self._told(chosen, len(found), 0)

    def _told(self, chosen: Sequence[RunDir], num_all: int, num_unread: int) -> RunsListed:
        known = [self._known[run.id] for run in chosen if run.id in self._known]
        return RunsListed(
            tuple(each.summary for each in known),
            num_all,
            tuple(self._damaged[run.id][1] for run in chosen if run.id in self._damaged),
            {each.summary.id: each.curves for each in known},
            num_unread,
        )

    def _update(self, run: RunDir) -> bool:
        """Bring what is known of `run` up to date; return whether any file had to be read."""
        stamps = _stamp_of(run.events)
        known = self._known.get(run.id)
        if known is not None and known.stamps == stamps:
            if known.follower is not None:  # nothing new is written, but is its worker still there?
                info, state = known.follower.info, known.follower.state
                known.summary = summary_of(run, info, state, self._now(), known.summary.num_bytes)
            return False
        if known is None and not self._may_be_readable(run):
            return False
        try:
            follower = known.follower if known is not None else None
            if follower is None:
                follower = _Follower(run.read_info(), outline_reader(run.events), RunState())
            self._known[run.id] = self._read(run, stamps, follower)
            self._damaged.pop(run.id, None)
        except (CifartuiError, OSError) as error:
            self._known.pop(run.id, None)
            if run.path.exists():  # else it was deleted meanwhile
                damaged = Damaged(run.id, str(error), _created(run), size_bytes(run.path))
                self._damaged[run.id] = (_files_of(run), damaged)
        return True

    def _may_be_readable(self, run: RunDir) -> bool:
        """Return False for what was damaged before and has not changed since."""
        return run.id not in self._damaged or self._damaged[run.id][0] != _files_of(run)

    def _read(self, run: RunDir, stamps: _FileStamp, follower: _Follower) -> _Known:
        info, state = follower.info, follower.state
        for batch in follower.reader.batches():
            fold(batch, state)
            forget_curves(state)
        summary = summary_of(run, info, state, self._now(), size_bytes(run.path))
        curves = RunCurves(tuple(state.epochs), summary.epochs, info.preset.report)
        is_over = state.is_finished and summary.status == state.phase
        return _Known(stamps, summary, curves, None if is_over else follower)


def _stamp_of(path: Path) -> _FileStamp:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _files_of(run: RunDir) -> tuple[_FileStamp, _FileStamp]:
    return _stamp_of(run.path / "run.json"), _stamp_of(run.events)


def _created(run: RunDir) -> float:
    """Return when a run was made, as its name says; 0 where it says nothing."""
    try:
        return calendar.timegm(time.strptime(run.id[:15], "%Y%m%dT%H%M%S"))
    except ValueError:
        return 0.0


def keep_listing(
    lister: RunLister,
    post: Callable[[RunsListed], object],
    wake: threading.Event,
    stop: threading.Event,
    every_s: float,
) -> None:
    """Post RunsListed as runs are read, then every `every_s` or when woken, until `stop` (set `wake` too to end)."""
    while not stop.is_set():
        wake.clear()
        for listed in lister.refresh():
            post(listed)
            if stop.is_set():
                return
        wake.wait(every_s)
