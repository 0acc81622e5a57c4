"""Summaries of all runs of a folder, kept up to date by reading only changes. Runs in a thread.

For Home, the ablation's table and Runs. The summary of a run that has ended is kept, also beside the run
(`tui.data.summaries`), and read again only if something has changed; a live run is read on from where reading stopped.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual.message import Message

from engine.journal.events import AnyEvent
from engine.journal.jsonl import LineReader
from engine.journal.outline import forget_curves, start_outline
from engine.journal.state import RunState, fold
from engine.runs import run_dir as runs
from engine.runs.delete import size_bytes
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir, RunInfo
from presets.errors import CifartuiError
from tui.data import summaries
from tui.data.summaries import RunStamps
from tui.data.summary import Damaged, RunCurves, Summary, damaged_of, summary_of
from tui.text.run_text import is_live

RECENT = 50
"""Number of the newest runs that Home and the ablation's table list."""
_FIRST_LISTED = 25
"""While there is much to read, a listing is posted after so many runs, then each time that they have doubled."""
_ROUNDS = 30
"""Of older runs that have ended, one in so many is looked at each time that nobody asked for."""
_POSTED_EVERY_S = 60.0
"""A listing that has not changed is posted this often, for the times in it ("3 min ago")."""


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
    """A run as last read. `follower` reads on; None if the run has ended."""

    stamps: RunStamps
    summary: Summary
    curves: RunCurves
    follower: "_Follower | None"

    def is_as_it_was(self, run: RunDir) -> bool:
        """Return whether the run has ended, and neither its journal nor the names in its folder have changed since."""
        return self.follower is None and summaries.is_as_it_was(run, self.stamps)


@dataclass
class _Follower:
    info: RunInfo
    reader: LineReader[AnyEvent]
    state: RunState


class _Folder:
    """The runs of a folder, listed again only if its time says that it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: list[RunDir] = []
        self._seen_ns: list[int] = []
        """The folder's time at the last two looks."""

    def runs(self, *, anew: bool) -> list[RunDir]:
        """Return them, newest first, in the same list as before if they are; with `anew` whatever the time says.

        Raises:
            CifartuiError: the folder cannot be listed.
        """
        try:
            now_ns = self._path.stat().st_mtime_ns
        except OSError:
            now_ns = 0
        if anew or self._seen_ns != [now_ns, now_ns] or not now_ns:  # twice: a new folder is a run a moment later
            found = runs.list_runs(self._path)
            if [run.id for run in found] != [run.id for run in self._runs]:
                self._runs = found
        self._seen_ns = [*self._seen_ns[-1:], now_ns]
        return self._runs


class RunLister:
    """Summarises the newest runs, or all. Used in one thread."""

    def __init__(self, runs_dir: Path, now: Callable[[], float], only: str = "", limit: int | None = RECENT) -> None:
        """List the runs of `runs_dir` whose id holds `only`, the newest `limit`; `now` returns Unix seconds."""
        self._folder, self._now, self._only, self._limit = _Folder(runs_dir), now, only, limit
        self._round = 0
        self._all: Sequence[RunDir] = []
        self._found: Sequence[RunDir] = []
        self._chosen: Sequence[RunDir] = []
        self._older_open: Sequence[RunDir] = []
        """Of those behind the newest, the ones to look at each time."""
        self._known: dict[str, _Known] = {}
        self._damaged: dict[str, tuple[object, Damaged]] = {}
        self._last: RunsListed | None = None

    def list(self) -> RunsListed:
        """Read the changes and return the runs."""
        *_, listed = self.refresh()
        return listed

    def refresh(self, *, is_idle: bool = False) -> Iterator[RunsListed]:
        """Read the changes; yield the listing so far now and then, and the whole one last.

        With `is_idle`, because nobody did or asked for anything: the newest runs and the live ones are looked at, of
        the older ones that have ended one in `_ROUNDS`. A listing without a change is the one before.
        """
        self._round += 1
        try:
            listed = self._folder.runs(anew=not is_idle or self._round % _ROUNDS == 0)
        except CifartuiError as error:
            self._last = None
            yield RunsListed((), 0, problem=str(error))
            return
        if listed is not self._all:
            self._choose(listed)
        is_quick = is_idle and self._last is not None
        chosen = self._due() if is_quick else self._chosen
        num_read, list_at, is_changed = 0, _FIRST_LISTED, self._last is None
        for number, run in enumerate(chosen):
            before = self._known.get(run.id)
            if is_quick and before is not None and before.is_as_it_was(run):
                continue
            summary = before.summary if before is not None else None
            if self._update(run):
                num_read += 1
                if num_read == list_at:
                    list_at *= 2
                    yield self._listed(len(chosen) - number - 1)
            after = self._known.get(run.id)
            is_changed = is_changed or after is not before or (after is not None and after.summary != summary)
        if is_changed or num_read or self._last is None:
            self._last = self._listed(0)
            self._older_open = [run for run in self._chosen[RECENT:] if self._is_open(run.id)]
        yield self._last

    def _choose(self, listed: Sequence[RunDir]) -> None:
        self._all = listed
        self._found = [run for run in listed if self._only in run.id]
        self._chosen = self._found[: self._limit]
        ids = {run.id for run in self._chosen}
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in ids}
        self._damaged = {run_id: known for run_id, known in self._damaged.items() if run_id in ids}
        self._last = None

    def _due(self) -> Sequence[RunDir]:
        """Return the runs to look at while nobody asks."""
        older = self._chosen[RECENT:]
        return [*self._chosen[:RECENT], *older[self._round % _ROUNDS :: _ROUNDS], *self._older_open]

    def _is_open(self, run_id: str) -> bool:
        """Return whether a run lives, or was not read yet."""
        known = self._known.get(run_id)
        return run_id not in self._damaged if known is None else known.follower is not None

    def _listed(self, num_unread: int) -> RunsListed:
        known = [self._known[run.id] for run in self._chosen if run.id in self._known]
        return RunsListed(
            tuple(each.summary for each in known),
            len(self._found),
            tuple(self._damaged[run.id][1] for run in self._chosen if run.id in self._damaged),
            {each.summary.id: each.curves for each in known},
            num_unread,
        )

    def _update(self, run: RunDir) -> bool:
        """Bring the summary of `run` up to date; return whether any file was read."""
        stamps = summaries.stamps_of(run)
        known = self._known.get(run.id)
        if known is not None and known.stamps == stamps:
            if known.follower is not None:  # nothing new is written, but is its worker still there?
                info, state = known.follower.info, known.follower.state
                known.summary = summary_of(run, info, state, self._now(), known.summary.num_bytes)
            return False
        if known is None and run.id in self._damaged and self._damaged[run.id][0] == _of_damaged(run, stamps):
            return False
        if known is None or known.follower is None:
            kept = summaries.read_kept_curves(run)
            if kept is not None:
                self._known[run.id] = _Known(stamps, *kept, None)
                self._damaged.pop(run.id, None)
                return True
        try:
            follower = known.follower if known is not None else None
            if follower is None:
                info, (state, reader) = read_shown(run), start_outline(run.events)
                follower = _Follower(info, reader, state)
            self._known[run.id] = self._read(run, stamps, follower)
            self._damaged.pop(run.id, None)
        except Exception as error:  # whatever is in one run's files, the others are listed
            self._known.pop(run.id, None)
            if os.path.lexists(run.path):  # else it was deleted meanwhile
                self._damaged[run.id] = (_of_damaged(run, stamps), damaged_of(run, error))
        return True

    def _read(self, run: RunDir, stamps: RunStamps, follower: _Follower) -> _Known:
        info, state = follower.info, follower.state
        for batch in follower.reader.batches():
            fold(batch, state)
            forget_curves(state)
        summary = summary_of(run, info, state, self._now(), size_bytes(run.path))
        curves = summaries.curves_of(info, state, summary)
        if not summaries.has_ended(run, state, summary):
            return _Known(stamps, summary, curves, follower)
        if summaries.keep(run, stamps, summary, curves):
            stamps = summaries.stamps_of(run)
        return _Known(stamps, summary, curves, None)


def _of_damaged(run: RunDir, stamps: RunStamps) -> object:
    """Return all by which is seen that a damaged run was mended: also its run.json, whose content may be the damage."""
    return stamps, summaries.stamp_of(run.path / "run.json")


def list_repeatedly(
    lister: RunLister,
    post: Callable[[RunsListed], object],
    wake: threading.Event,
    stop: threading.Event,
    every_s: float,
) -> None:
    """Post RunsListed as runs are read, then every `every_s` or when woken, until `stop` (set `wake` too to end).

    A listing without a change is posted when woken, and else now and then only.
    """
    posted, posted_at, is_idle = None, 0.0, False
    while not stop.is_set():
        wake.clear()
        for listed in lister.refresh(is_idle=is_idle):
            if listed is not posted or not is_idle or time.monotonic() - posted_at > _POSTED_EVERY_S:
                post(listed)
                posted, posted_at = listed, time.monotonic()
            if stop.is_set():
                return
        is_idle = not wake.wait(every_s)


def newly_ended(before: Sequence[Summary], after: Sequence[Summary]) -> list[Summary]:
    """Return the runs of `after` that have ended and were alive in `before`, the listing before it."""
    alive = {run.id for run in before if is_live(run.status)}
    return [run for run in after if run.id in alive and not is_live(run.status)]
