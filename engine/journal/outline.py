"""A run's outline: what its journal adds up to without its curves of steps, read without decoding them.

Nearly every line of a long journal is a report of the loop, a reading of the devices or a progress. Only the last
of each before a rarer event matters to a summary; the others are told by how their line begins and passed over.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.journal.events import AnyEvent
from engine.journal.jsonl import LineReader
from engine.journal.series import StepSeries
from engine.journal.state import RunState, fold
from engine.runs.run_dir import RunDir

_FREQUENT = {b"StepsTrained", b"DeviceSampled", b"EvaluationProgressed", b"DataProgressed"}
_NAME_STARTS = len('{"type":"')


def outline_reader(path: Path) -> LineReader[AnyEvent]:
    """Return a reader at the start of an events.jsonl that leaves out what a summary does not need."""
    return LineReader(path, AnyEvent, _worth_decoding)


def _worth_decoding(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the rare lines, and before each of them (and at the end) the latest of every frequent kind."""
    latest: dict[bytes, bytes] = {}
    for line in lines:
        kind = line[_NAME_STARTS : line.find(b'"', _NAME_STARTS)]
        if kind in _FREQUENT:
            latest.pop(kind, None)  # so that the order is that of the lines kept
            latest[kind] = line
            continue
        yield from latest.values()
        latest.clear()
        yield line
    yield from latest.values()


def read_outline(run: RunDir) -> RunState:
    """Return what the journal so far adds up to, with no more curves than a point an epoch."""
    state = RunState()
    for batch in outline_reader(run.events).batches():
        fold(batch, state)
        forget_curves(state)
    return state


def forget_curves(state: RunState) -> None:
    """Drop what grows long in a state that is kept for its outline."""
    state.steps = StepSeries()
    state.device_history.clear()
