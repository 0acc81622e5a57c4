"""Summaries of the runs of a folder, kept beside each run that has ended so that its journal need not be read again.

`summary.jsonl` is a copy of what the journal and run.json say. It is believed while they are as they were when it was
made, and if it belongs to whoever the journal belongs to; else it is made anew, by whoever lists the run and owns it.
No Textual.
"""

import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import files
from engine.files import DAMAGED
from engine.journal.outline import read_outline
from engine.journal.state import RunState
from engine.runs.delete import size_bytes
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir, RunInfo, list_runs
from tui.data.reference import report_of
from tui.data.summary import Damaged, RunCurves, Summary, damaged_of, summary_of
from tui.text.run_text import is_live

_FORMAT = 7
"""To be raised whenever `Summary`, `RunCurves` or what a fold makes of a journal changes."""
_MOST_BYTES = 1 << 16
"""Of a summary; without its curves."""
_MOST_CURVE_BYTES = 1 << 24

_SILENT_S = 3600.0

FileStamp: TypeAlias = tuple[int, int, int] | None
"""Size, time of change and inode of a file; None where it is absent."""


class RunStamps(NamedTuple):
    """All by which a change of a run is seen: its journal, its folder (names in it), its checkpoints, its settings."""

    journal: FileStamp
    folder_ns: int
    checkpoints: FileStamp
    info: FileStamp
    """Of run.json, or of amended.json where there is one: an editor may write into the file that is there."""


class _Kept(Struct, frozen=True):
    """First line of the file; the second is a RunCurves."""

    format: int
    journal: FileStamp
    checkpoints: FileStamp
    info: FileStamp
    summary: Summary


def stamps_of(run: RunDir) -> RunStamps:
    """Return a run's stamps."""
    path = str(run.path)
    folder = _status(path)
    return RunStamps(
        _stamp(_status(f"{path}/events.jsonl")),
        0 if folder is None else folder.st_mtime_ns,
        _stamp(_status(f"{path}/checkpoints")),
        _stamp_of_info(path),
    )


def is_as_it_was(run: RunDir, stamps: RunStamps) -> bool:
    """Return whether a run's journal and folder have these stamps: whoever goes on with a run writes into both."""
    path = str(run.path)
    folder = _status(path)
    return (
        folder is not None
        and folder.st_mtime_ns == stamps.folder_ns
        and _stamp(_status(f"{path}/events.jsonl")) == stamps.journal
    )


def _stamp_of_info(path: str) -> FileStamp:
    return _stamp(_status(f"{path}/amended.json") or _status(f"{path}/run.json"))


def stamp_of(path: Path) -> FileStamp:
    """Return the stamp of a file."""
    return _stamp(_status(str(path)))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _stamp(about: os.stat_result | None) -> FileStamp:
    return None if about is None else (about.st_size, about.st_mtime_ns, about.st_ino)


def read_kept(run: RunDir) -> Summary | None:
    """Return the summary kept beside a run; None if there is none that can be believed."""
    found = _read_kept(str(run.path), _MOST_BYTES)
    return None if found is None else found[0]


def read_kept_curves(run: RunDir) -> tuple[Summary, RunCurves] | None:
    """Return summary and curves kept beside a run; None if there are none that can be believed."""
    found = _read_kept(str(run.path), _MOST_CURVE_BYTES)
    try:
        return None if found is None else (found[0], _curve_decoder().decode(found[1]))
    except DAMAGED:
        return None


def _read_kept(path: str, most_bytes: int) -> tuple[Summary, bytes] | None:
    try:
        content, about = files.read_derived(f"{path}/summary.jsonl", most_bytes)
        line, newline, curves = content.partition(b"\n")
        kept = _decoder().decode(line)
    except (OSError, *DAMAGED):
        return None
    folder, journal, checkpoints = _status(path), _status(f"{path}/events.jsonl"), _status(f"{path}/checkpoints")
    is_valid = (
        newline
        and kept.format == _FORMAT
        and folder is not None
        and folder.st_mtime_ns <= about.st_ctime_ns
        and about.st_uid == (folder if journal is None else journal).st_uid
        and kept.journal == _stamp(journal)
        and kept.checkpoints == _stamp(checkpoints)
        and kept.info == _stamp_of_info(path)
    )
    return (replace(kept.summary, path=path, id=path.rpartition("/")[2]), curves) if is_valid else None


@lru_cache(maxsize=1)
def _decoder() -> msgspec.json.Decoder[_Kept]:
    return msgspec.json.Decoder(_Kept)


@lru_cache(maxsize=1)
def _curve_decoder() -> msgspec.json.Decoder[RunCurves]:
    return msgspec.json.Decoder(RunCurves)


def keep(run: RunDir, stamps: RunStamps, summary: Summary, curves: RunCurves) -> bool:
    """Keep the summary of a run that was read, if it has ended and is ours; return whether a file was written.

    Args:
        run: the run.
        stamps: of the run before it was read.
        summary: of the run.
        curves: of the run.
    """
    path = str(run.path)
    owner = _status(f"{path}/events.jsonl") or _status(path)
    if owner is None or owner.st_uid != os.geteuid() or summary.not_understood:
        return False
    kept = _Kept(_FORMAT, stamps.journal, stamps.checkpoints, stamps.info, replace(summary, path=""))
    try:
        line = msgspec.json.encode(kept)
        if len(line) >= _MOST_BYTES:
            return False
        return files.write_derived(run.summary, (line, b"\n", msgspec.json.encode(curves)))
    except UnicodeEncodeError:
        return False


def has_ended(run: RunDir, state: RunState, summary: Summary) -> bool:
    """Return whether nothing more is heard of a run until another worker takes it, as far as this host can see.

    Of a worker that cannot be seen from here that is believed after an hour without a word.
    """
    if state.is_finished:
        return summary.status == state.phase
    if summary.status != "lost":
        return False
    lives, journal = run.worker_lives(), _status(str(run.events))
    return lives is False or (lives is None and journal is not None and time.time() - journal.st_mtime > _SILENT_S)


def curves_of(info: RunInfo, state: RunState, summary: Summary) -> RunCurves:
    """Return the curves of a run whose state was folded before."""
    return RunCurves(tuple(state.epochs), summary.epochs, report_of(info), not is_live(summary.status))


def summarise(run: RunDir) -> Summary:
    """Return the summary of a run.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    kept = read_kept(run)
    if kept is not None:
        return kept
    stamps = stamps_of(run)
    info, state = read_shown(run), read_outline(run.events)
    summary = summary_of(run, info, state, time.time(), size_bytes(run.path))
    if has_ended(run, state, summary):
        keep(run, stamps, summary, curves_of(info, state, summary))
    return summary


def summarise_all(runs_dir: Path, leave_out: Callable[[Damaged], object]) -> list[Summary]:
    """Return the summaries of all runs of a folder, newest first; call `leave_out` for one that cannot be read."""
    summaries = []
    for run in list_runs(runs_dir):
        try:
            summaries.append(summarise(run))
        except Exception as error:  # whatever is in one run's files, the others are listed
            if os.path.lexists(run.path):
                leave_out(damaged_of(run, error))
    return summaries
