"""Resume of a run in its worker: the checkpoint, its data compared with that of now, its best weights.

Imports torch only where it is called with what needs it. `engine.runs.resume` is the part before the worker.
"""

import json
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from engine.journal.data_record import DataRecord, differences
from engine.journal.events import Alerted, BestMeasured
from engine.journal.jsonl import EventWriter
from engine.runs.resume import ACCEPT
from engine.runs.run_dir import RunDir, RunInfo
from engine.training.alerts import LearningWatch
from presets.errors import CifartuiError

if TYPE_CHECKING:
    from engine.training.checkpoint_manager import Best, Checkpoints
    from engine.training.metrics import Sums
    from engine.training.train_state import TrainState


def look_back(folder: RunDir, watch: LearningWatch, *, resume: bool) -> None:
    """Show `watch` what an earlier worker saw, and said."""
    for event in folder.read_state().log if resume else ():  # of the losses before, nothing counts after a RunStarted
        watch.see(event)


def load_last(folder: RunDir, info: RunInfo) -> tuple[dict[str, Any], str]:
    """Return the newest checkpoint from which a run can go on, and a sentence if that is not last.pt.

    Raises:
        CifartuiError: there is none that belongs to the run and holds usable numbers.
    """
    from engine.training import checkpoint_files
    from engine.training.train_state import check_state

    return checkpoint_files.load_last(folder.checkpoints, lambda state: check_state(state, info.preset))


def has_checkpoint(folder: RunDir) -> bool:
    """Return whether there is anything to resume from."""
    return any(folder.checkpoints.glob("last*.pt"))


def global_step(state: dict[str, object]) -> int:
    """Return how many batches were trained for the checkpoint `state`; 0 where it is empty."""
    progress = state.get("progress")
    step = progress.get("global_step", 0) if isinstance(progress, dict) else 0
    return step if isinstance(step, int) else 0


def check_data(
    folder: RunDir,
    journal: EventWriter,
    before: DataRecord | None,
    now: DataRecord,
    *,
    accept: bool,
    data_path: str | None = None,
) -> bool:
    """Return true if the data has changed since the checkpoint, and is accepted.

    Args:
        folder: of the run.
        journal: of the run, which is told of a change.
        before: data of the checkpoint; None if there is no record.
        now: data of now.
        accept: go on with data that has changed.
        data_path: where this resume was told that the data is.

    Raises:
        CifartuiError: it has changed, and is not accepted.
    """
    changed = differences(before, now) if before is not None else ""
    if changed and not accept:
        text = f"The data in {now.source} has changed since the last checkpoint of this run: {changed}."
        moved = "" if data_path is None else f"--data {shlex.quote(data_path)} "
        advice = f"To train on with it: cifartui resume {folder.id} {moved}{ACCEPT}"
        changes = (ACCEPT,) if data_path is None else (ACCEPT, f"--data={data_path}")
        journal.write(Alerted(severity="error", kind="changed-data", text=text, advice=f"{advice}.", changes=changes))
        raise CifartuiError(f"{text} {advice}")
    if changed:
        text = f"Training goes on with data that has changed: {changed}. The best weights so far are validated again."
        journal.write(Alerted(severity="warning", kind="changed-data", text=text))
    return bool(changed)


def keep_data_path(folder: RunDir, info: RunInfo) -> None:
    """Let the run's record name the data where `info` has it: it has moved, and was found to be the same."""
    ours, path = folder.read_info(), info.preset.data.path
    moved = f"data.path={json.dumps(path, ensure_ascii=False)}"
    if ours.preset.data.path != path:
        folder.write_amended(replace(ours, preset=info.preset, overrides=(*ours.overrides, moved)))


def take_changed_data(
    state: dict[str, Any],
    train_state: "TrainState",
    checkpoints: "Checkpoints",
    measure: 'Callable[[Literal["val"]], Sums]',
    tell: Callable[[BestMeasured], object],
) -> None:
    """Measure the best weights so far on the validation images of now; training then goes on with those of `state`.

    Args:
        state: the checkpoint, of which `train_state` is restored already.
        train_state: of the run; its best accuracy, and that of a schedule that goes by it, become those measured.
        checkpoints: of the run.
        measure: evaluates the network on a split.
        tell: journals the measurement.
    """
    from engine.training.reports import best_measured

    progress = train_state.progress
    if progress.best_val_top1 is None or progress.best_epoch is None:
        return
    if checkpoints.load_best("best", train_state.evaluated, "The best accuracy so far is forgotten."):
        val = measure("val")
        train_state.fill(state)
        progress.take_best(val.top1(), val.balanced)
        tell(best_measured(progress, val))
    else:
        progress.forget_best("best")
        progress.forget_best("stage-best")
    _, stage_best = progress.best_scores(train_state.best_by)
    train_state.stage_optimizer.set_best(stage_best)


def check_best_weights(train_state: "TrainState", checkpoints: "Checkpoints") -> None:
    """Check best weights that will be needed; if they cannot be used, an alert says so and they are forgotten."""
    progress = train_state.progress
    needed: list[tuple[Best, float | None]] = [("best", progress.best_val_top1)]
    if train_state.next_begins_with_best:
        needed.append(("stage-best", progress.stage_best_val_top1))
    instead = "The best weights so far are lost; those of the next validation take their place."
    for kind, accuracy in needed:
        if accuracy is not None and not checkpoints.has_best(kind, train_state.evaluated, instead):
            progress.forget_best(kind)
