"""Outline of a run: its state without the curves, read without decoding every line. No torch.

Nearly every line of a long journal is a report of the loop, a reading of the devices or a progress. Only the last
of each before a rarer event matters to a summary; the others are recognised by the start of their line and skipped.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from engine.journal.events import AnyEvent
from engine.journal.jsonl import LineReader
from engine.journal.series import StepSeries
from engine.journal.state import RunState, fold

_FREQUENT = {kind.__struct_config__.tag.encode() for kind in get_args(AnyEvent) if kind.frequent}
_NAME_STARTS = len('{"type":"')


def outline_reader(path: Path) -> LineReader[AnyEvent]:
    """Return a reader at the start of an events.jsonl that skips the lines that a summary does not need."""
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


def read_outline(path: Path) -> RunState:
    """Return the state after an events.jsonl as it is now, with one point an epoch as its only curve."""
    state = RunState()
    for batch in outline_reader(path).batches():
        fold(batch, state)
        forget_curves(state)
    return state


def forget_curves(state: RunState) -> None:
    """Drop the curves of steps and of device readings."""
    state.steps = StepSeries()
    state.device_history.clear()
