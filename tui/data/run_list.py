"""Summaries of all runs of a folder, kept up to date by reading only changes. Runs in a thread.

For Home, the ablation's table and Runs. The summary of a finished run is kept, and read again only if its journal
has changed; a live run is read on from where reading stopped.
"""

import os
import threading
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
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir, RunInfo
from presets.errors import CifartuiError
from presets.schema import Report
from tui.data.summary import Damaged, Summary, damaged_of, summary_of
from tui.text.run_text import is_live

RECENT = 50
"""Number of the newest runs that Home and the ablation's table list."""
_LIST_EVERY = 25
"""While there is much to read, a listing is posted after so many runs."""
_FileStamp: TypeAlias = tuple[int, int] | None
"""Size and time of change of a file; None where it is absent."""


class RunCurves(Struct, frozen=True):
    """Curves of a run by epoch, to be drawn over those of others."""

    epochs: tuple[EpochPoint, ...]
    total_epochs: int
    report: Report


@dataclass
class RunsListed(Message):
    """The newest runs, newest first, and how many there are in all."""

    runs: tuple[Summary, ...]
    num_all: int
    damaged: tuple[Damaged, ...] = ()
    curves: dict[str, RunCurves] = field(default_factory=dict)
    """By id."""
    num_unread: int = 0
    """Number of the runs to be listed that were not read yet."""
    problem: str = ""
    """The reason, if the folder cannot be listed."""


@dataclass
class _Known:
    """A run as last read. `follower` reads on; None if the run is finished."""

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
        """List the runs of `runs_dir` whose id holds `only`, the newest `limit`; `now` returns Unix seconds."""
        self._runs_dir, self._now, self._only, self._limit = runs_dir, now, only, limit
        self._known: dict[str, _Known] = {}
        self._damaged: dict[str, tuple[tuple[_FileStamp, _FileStamp], Damaged]] = {}

    def list(self) -> RunsListed:
        """Read the changes and return the runs."""
        *_, listed = self.refresh()
        return listed

    def refresh(self) -> Iterator[RunsListed]:
        """Read the changes; yield the listing so far now and then, and the whole one last."""
        try:
            found = [run for run in runs.list_runs(self._runs_dir) if self._only in run.id]
        except CifartuiError as error:
            yield RunsListed((), 0, problem=str(error))
            return
        chosen = found[: self._limit]
        ids = {run.id for run in chosen}
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in ids}
        self._damaged = {run_id: known for run_id, known in self._damaged.items() if run_id in ids}
        num_read = 0
        for number, run in enumerate(chosen):
            if self._update(run):
                num_read += 1
                if num_read % _LIST_EVERY == 0:
                    yield self._listed(chosen, len(found), len(chosen) - number - 1)
        yield self._listed(chosen, len(found), 0)

    def _listed(self, chosen: Sequence[RunDir], num_all: int, num_unread: int) -> RunsListed:
        known = [self._known[run.id] for run in chosen if run.id in self._known]
        return RunsListed(
            tuple(each.summary for each in known),
            num_all,
            tuple(self._damaged[run.id][1] for run in chosen if run.id in self._damaged),
            {each.summary.id: each.curves for each in known},
            num_unread,
        )

    def _update(self, run: RunDir) -> bool:
        """Bring the summary of `run` up to date; return whether any file was read."""
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
                follower = _Follower(read_shown(run), outline_reader(run.events), RunState())
            self._known[run.id] = self._read(run, stamps, follower)
            self._damaged.pop(run.id, None)
        except Exception as error:  # whatever is in one run's files, the others are listed
            self._known.pop(run.id, None)
            if os.path.lexists(run.path):  # else it was deleted meanwhile
                self._damaged[run.id] = (_files_of(run), damaged_of(run, error))
        return True

    def _may_be_readable(self, run: RunDir) -> bool:
        """Return whether the run was not found damaged before, or has changed since."""
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


def list_repeatedly(
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


def newly_ended(before: Sequence[Summary], after: Sequence[Summary]) -> list[Summary]:
    """Return the runs of `after` that have ended and were alive in `before`, the listing before it."""
    alive = {run.id for run in before if is_live(run.status)}
    return [run for run in after if run.id in alive and not is_live(run.status)]
