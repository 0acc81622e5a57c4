"""Outline of a run: its state without the curves, read without decoding every line. No torch.

Nearly every line of a long journal is a report of the loop, a reading of the devices or a progress. Only the last
of each before a rarer event matters to a summary, and the readings on either side of a change of worker, which sum up
for how long each has worked; the others are recognised by the start of their line and skipped.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from engine.journal.events import AnyEvent, DeviceSampled
from engine.journal.fold_file import start_from_fold
from engine.journal.jsonl import LineReader
from engine.journal.series import StepSeries
from engine.journal.state import RunState, fold

_STARTS = tuple(b'{"type":"%s"' % kind.__struct_config__.tag.encode() for kind in get_args(AnyEvent) if kind.frequent)
_KIND = slice(9, 13)
"""Of the start of a line: the letters by which frequent events are told apart."""


_BEAT = b'{"type":"%s"' % DeviceSampled.__name__.encode()
_UPTIME = b'"worker_s":'


def outline_reader(path: Path, worker_s: float | None = None) -> LineReader[AnyEvent]:
    """Return a reader at the start of an events.jsonl that skips the lines that a summary does not need.

    Args:
        path: of the journal.
        worker_s: uptime of the worker, as it was told last before the line that the reader is put to.
    """
    return LineReader(path, AnyEvent, _worth_decoding(worker_s))


def _worth_decoding(worker_s: float | None) -> Callable[[Sequence[bytes]], Iterator[bytes]]:
    """Return what picks of lines the rare ones, and before each of them (and at the end) the frequent ones that count.

    Those are the latest of every kind, and of readings the last of a worker and the first of the next one.
    """

    def pick(lines: Sequence[bytes]) -> Iterator[bytes]:
        nonlocal worker_s
        start = 0
        rare = [number for number, line in enumerate(lines) if not line.startswith(_STARTS)]
        for end in [*rare, len(lines)]:
            wanted, beat = set[int](), None
            for number in [number for number in range(start, end) if lines[number].startswith(_BEAT)]:
                if (uptime := _uptime(lines[number])) is not None:
                    if worker_s is not None and uptime < worker_s:
                        wanted |= {number} if beat is None else {beat, number}
                    worker_s, beat = uptime, number
            latest = {line[_KIND]: number for number, line in enumerate(lines[start:end], start)}
            for number in sorted(wanted.union(latest.values())):
                yield lines[number]
            yield from lines[end : end + 1]
            start = end + 1

    return pick


def _uptime(line: bytes) -> float | None:
    """Return the worker's uptime in the line of a reading; None if it is not there."""
    try:
        return float(line.rpartition(_UPTIME)[2].rstrip(b"}"))
    except ValueError:
        return None


def start_outline(path: Path) -> tuple[RunState, LineReader[AnyEvent]]:
    """Return the outline of the fold kept beside an events.jsonl, and the reader for what follows."""
    state, whole = start_from_fold(path)
    forget_curves(state)
    reader = outline_reader(path, state.worker_s)
    reader.skip_to(whole.offset)
    return state, reader


def read_outline(path: Path) -> RunState:
    """Return the state after an events.jsonl as it is now, with one point an epoch as its only curve."""
    state, reader = start_outline(path)
    for batch in reader.batches():
        fold(batch, state)
        forget_curves(state)
    return state


def forget_curves(state: RunState) -> None:
    """Drop the curves of steps and of device readings."""
    state.steps = StepSeries()
    state.device_history.clear()
