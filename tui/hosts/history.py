"""State of a run as it goes over a line: curves thinned to what a screen shows, lists cut, every number checked.

The journal of seven hundred epochs is some 100 kB packed. What is left out is the middle of long lists, of which the
Monitor shows the ends or a plot.
"""

import math
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Raw, Struct

from engine.journal.events import AnyEvent, Count, DeviceSampled, Moment, Number, RunStarted
from engine.journal.jsonl import well_formed
from engine.journal.series import COLUMNS, StepSeries
from engine.journal.state import RATE_WINDOW, SAMPLES_KEPT, RunState

MOST_POINTS = 2048
"""Of the curve of steps: several for each column of a wide screen."""
_MOST_EPOCHS = 2000
_MOST_SAMPLES = 240
_MOST_LOGGED = 200
_MOST_LISTED = 200
"""Of commands, marks, alerts and validations."""

_Item = TypeVar("_Item")


class _Curve(Struct, frozen=True):
    """A StepSeries in columns, of bounded values and in few digits."""

    global_step: tuple[Count, ...]
    epoch: tuple[Number, ...]
    time: tuple[Moment, ...]
    loss: tuple[Number, ...]
    top1: tuple[Number, ...]
    num_images: tuple[Number, ...]
    num_reports: Count
    num_thinned: Count
    slot_steps: Count
    lr: tuple[Number, ...] = ()
    """Empty, as the following two, if the other side is of a version before."""
    grad_norm: tuple[Number | None, ...] = ()
    clipped: tuple[Number, ...] = ()


_ADDED = ("lr", "grad_norm", "clipped")


def encode_history(state: RunState) -> Raw:
    """Return a state as JSON, cut to what a viewer shows. The state is not to be used afterwards."""
    _cut(state)
    try:
        return Raw(msgspec.json.encode(state, enc_hook=_encoded))
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return Raw(msgspec.json.encode(well_formed(msgspec.to_builtins(state, enc_hook=_encoded))))


def decode_history(content: Raw) -> RunState:
    """Return the state in JSON that anybody may have written.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: it is none.
    """
    state = _decoder().decode(content)
    steps = [point.global_step for point in state.epochs]
    if steps != sorted(steps):
        raise msgspec.ValidationError("its epochs are in no order")
    state.log = [event for event in state.log if not event.frequent]
    return state


def _cut(state: RunState) -> None:
    state.steps = _thinned(state.steps)
    state.epochs = _evenly(state.epochs, _MOST_EPOCHS)
    state.device_history = deque(_evenly(list(state.device_history), _MOST_SAMPLES), maxlen=SAMPLES_KEPT)
    state.log = _cut_log(state.log)
    state.commands = dict(list(state.commands.items())[-_MOST_LISTED:])
    for name in ("marks", "alerts", "validations"):
        setattr(state, name, getattr(state, name)[-_MOST_LISTED:])


def _cut_log(log: list[AnyEvent]) -> list[AnyEvent]:
    """Return the end of a log, and before it the beginning and end of every worker, by which its time is summed."""
    start = max(0, len(log) - _MOST_LOGGED)
    starts = [number for number, event in enumerate(log[:start]) if isinstance(event, RunStarted)][-_MOST_LISTED:]
    kept = {number for begin in starts for number in (begin - 1, begin) if number >= 0}
    return [log[number] for number in sorted(kept)] + log[start:]


def _evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """Return at most so many items: the newest quarter of that number, and the others evenly."""
    if len(items) <= most:
        return list(items)
    end = len(items) - most // 4
    wanted = most - most // 4
    return [items[number * end // wanted] for number in range(wanted)] + list(items[end:])


def _thinned(series: StepSeries) -> StepSeries:
    """Return a curve of at most `MOST_POINTS`."""
    if len(series) <= MOST_POINTS:
        return series
    thin = StepSeries(most=MOST_POINTS)
    for name in COLUMNS:
        setattr(thin, name, getattr(series, name)[:])
    thin.num_reports, thin.slot_steps, thin.num_thinned = series.num_reports, series.slot_steps, series.num_thinned
    thin.thin(MOST_POINTS)
    return thin


def _encoded(value: Any) -> Any:
    if isinstance(value, StepSeries):
        return _Curve(
            tuple(value.global_step),
            tuple([round(each, 4) for each in value.epoch]),
            tuple([round(each, 1) for each in value.time]),
            tuple([_short(each) for each in value.loss]),
            tuple([_short(each) for each in value.top1]),
            tuple(value.num_images),
            value.num_reports,
            value.num_thinned,
            value.slot_steps,
            tuple([_short(each) for each in value.lr]),
            tuple([_short(each) if math.isfinite(each) else None for each in value.grad_norm]),
            tuple(value.clipped),
        )
    if isinstance(value, deque):
        return list(value)
    raise NotImplementedError(type(value))


def _short(value: float) -> float:
    """Return a value in the five digits that a plot can show."""
    return float(f"{value:.5g}")


def _decoded(kind: Any, value: Any) -> Any:
    if kind is StepSeries:
        curve, series = msgspec.convert(value, _Curve), StepSeries()
        lengths = {name: len(getattr(curve, name)) for name in COLUMNS}
        if len({length for name, length in lengths.items() if length or name not in _ADDED}) != 1:
            raise ValueError("its columns have different lengths")
        if len(curve.global_step) > MOST_POINTS or list(curve.global_step) != sorted(curve.global_step):
            raise ValueError("it is no curve")
        for name in COLUMNS:
            values = getattr(curve, name) or [0.0 if name == "clipped" else None] * len(curve.global_step)
            getattr(series, name).extend([math.nan if each is None else each for each in values])
        series.num_reports, series.slot_steps = curve.num_reports, max(1, curve.slot_steps)
        series.num_thinned = min(curve.num_thinned, len(series))
        return series
    if get_args(kind) == (DeviceSampled,):
        return deque(msgspec.convert(value, list[DeviceSampled]), maxlen=SAMPLES_KEPT)
    return deque(msgspec.convert(value, list[tuple[Count, Number]]), maxlen=RATE_WINDOW)


@lru_cache(maxsize=1)
def _decoder() -> "msgspec.json.Decoder[RunState]":
    return msgspec.json.Decoder(RunState, dec_hook=_decoded)
