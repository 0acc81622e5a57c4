"""A run in a few plain values, for lists, `show` and JSON. Reads a run's journal once; draws nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from msgspec import Struct

from engine.journal.events import RunStarted
from engine.journal.outline import read_outline
from engine.journal.state import RunState, worked_s
from engine.runs.delete import size_bytes
from engine.runs.run_dir import RunFolder, RunInfo, Status, list_runs, status_of
from presets.errors import CifartuiError
from presets.plan import total_epochs

_AT_WORK = {"starting", "data", "model", "training", "validating", "testing", "paused"}


class Summary(Struct, frozen=True, kw_only=True):
    """What matters of a run. Accuracies are fractions, `created` is Unix seconds."""

    id: str
    preset_name: str
    title: str
    overrides: tuple[str, ...]
    status: Status
    reason: str
    created: float
    seed: int
    data: str
    device: str
    epoch: int
    epochs: int
    global_step: int
    seconds_per_epoch: float | None = None
    """Median of the whole epochs, validation included."""
    train_loss: float | None
    val_loss: float | None
    best_epoch: int | None
    best_val_top1: float | None
    test_top1: float | None
    alerts: tuple[str, ...]
    path: str
    host: str = ""
    """Where its last worker ran, or else where it was launched."""
    duration_s: float | None = None
    """For how long its workers, one after another, have worked."""
    num_bytes: int | None = None
    """What its folder takes on disk, checkpoints and all."""


def summarise(run: RunFolder) -> Summary:
    """Return the summary of a run.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    return summary_of(run, run.read_info(), read_outline(run), time.time(), size_bytes(run.path))


def summarise_all(runs_dir: Path, tell: Callable[[str], object]) -> list[Summary]:
    """Return the summaries of all runs of a folder, newest first; of one that cannot be read, `tell` is told."""
    summaries = []
    for run in list_runs(runs_dir):
        try:
            summaries.append(summarise(run))
        except CifartuiError as error:
            tell(f"left out: {error}")
    return summaries


def summary_of(run: RunFolder, info: RunInfo, state: RunState, now: float, num_bytes: int | None = None) -> Summary:
    """Return the summary of a run whose `state` was folded before; `now` is Unix seconds."""
    status = status_of(state, run.worker_lives(), now)
    last = state.epochs[-1] if state.epochs else None
    whole_s = [point.seconds for point in state.epochs if not point.partial]
    data = ""
    if state.data is not None:
        generated = " (generated images)" if state.data.generated else ""
        data = f"{state.data.dataset}{generated}, {state.data.num_train:,} train, {state.data.num_val:,} val"
    return Summary(
        id=info.id,
        preset_name=info.preset_name,
        title=info.preset.title,
        overrides=info.overrides,
        status=status,
        reason=state.finished.reason if state.finished else "",
        created=info.created,
        seed=info.seed,
        data=data,
        device=_device(state.started) if state.started else "",
        epoch=state.epoch if status in _AT_WORK else _epochs_done(state),
        epochs=state.total_epochs or total_epochs(info.preset),
        global_step=state.global_step,
        seconds_per_epoch=median(whole_s) if whole_s else None,
        train_loss=last.train_loss if last else None,
        val_loss=last.val_loss if last else None,
        best_epoch=state.best.number if state.best else None,
        best_val_top1=state.best.val_top1 if state.best else None,
        test_top1=state.finished.test_top1 if state.finished else None,
        alerts=tuple(alert.text for alert in state.alerts),
        path=str(run.path),
        host=state.started.host if state.started else info.host,
        duration_s=worked_s(state, now if status in _AT_WORK else state.last_time),
        num_bytes=num_bytes,
    )


def _epochs_done(state: RunState) -> int:
    """Return the last epoch that was validated: one that was only begun is not done."""
    return state.epochs[-1].number if state.epochs else 0


def _device(started: RunStarted) -> str:
    times = f"{len(started.ranks)} × " if started.ranks else ""
    return f"{times}{started.device_name}, {started.precision}"
