"""A run in a few plain values, for lists, `show` and JSON. Reads a run's journal once; draws nothing."""

import time

from msgspec import Struct

from engine.runs.folder import RunFolder, RunInfo, Status, status_of
from engine.runs.state import RunState
from presets.plan import total_epochs


class Summary(Struct, frozen=True, kw_only=True):
    """What matters of a run. Accuracies are fractions, `created` is Unix seconds."""

    id: str
    preset_name: str
    title: str
    overrides: tuple[str, ...]
    status: Status
    reason: str
    created: float
    host: str = ""
    seed: int
    data: str
    device: str
    epoch: int
    epochs: int
    global_step: int
    seconds_per_epoch: float | None = None
    """Median of the whole epochs, validation included."""
    seconds: float | None = None
    """From the worker's first word to its last one so far, pauses and interruptions included."""
    train_loss: float | None
    val_loss: float | None
    best_epoch: int | None
    best_val_top1: float | None
    test_top1: float | None
    alerts: tuple[str, ...]
    path: str


def summarise(run: RunFolder) -> Summary:
    """Return the summary of a run.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    return summary_of(run, run.read_info(), run.read_state(), time.time())


def summary_of(run: RunFolder, info: RunInfo, state: RunState, now: float) -> Summary:
    """Return the summary of a run whose `state` was folded before; `now` is Unix seconds."""
    last = state.epochs[-1] if state.epochs else None
    data = ""
    if state.data is not None:
        generated = " (generated images)" if state.data.generated else ""
        data = f"{state.data.dataset}{generated}, {state.data.num_train:,} train, {state.data.num_val:,} val"
    return Summary(
        id=info.id,
        preset_name=info.preset_name,
        title=info.preset.title,
        overrides=info.overrides,
        status=status_of(state, run.worker_lives(), now),
        reason=state.finished.reason if state.finished else "",
        created=info.created,
        host=info.host,
        seed=info.seed,
        data=data,
        device=f"{state.started.device_name}, {state.started.precision}" if state.started else "",
        epoch=state.epoch,
        epochs=state.total_epochs or total_epochs(info.preset),
        global_step=state.global_step,
        seconds_per_epoch=_median([point.seconds for point in state.epochs if not point.partial]),
        seconds=_seconds(state),
        train_loss=last.train_loss if last else None,
        val_loss=last.val_loss if last else None,
        best_epoch=state.best.number if state.best else None,
        best_val_top1=state.best.val_top1 if state.best else None,
        test_top1=state.finished.test_top1 if state.finished else None,
        alerts=tuple(alert.text for alert in state.alerts),
        path=str(run.path),
    )


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _seconds(state: RunState) -> float | None:
    if state.first_started_time is None or state.last_time is None:
        return None
    return state.last_time - state.first_started_time
