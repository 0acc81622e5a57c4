"""When training diverges: how it is noticed that loss or weights are no longer numbers, and what then helps."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from engine.journal.events import Alerted
from engine.runs.run_dir import RunInfo
from engine.training.optimizers import StageOptimizer
from presets.plan import PlannedStage
from presets.schema import Plateau


class NonFiniteError(Exception):
    """Loss or weights are infinite or NaN; the message is a clause that says which, and since when."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every value is a finite number. Waits for the device."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def explain(
    error: NonFiniteError,
    info: RunInfo,
    plan: Sequence[PlannedStage],
    stage: int,
    stage_optimizer: StageOptimizer,
    saved_step: int | None,
) -> Alerted:
    """Return what to tell of it, with the command that goes on at half the learning rate.

    Args:
        error: what came.
        info: of the run.
        plan: its stages.
        stage: the number of that under way; of the last one's end, too.
        stage_optimizer: how the weights moved in it.
        saved_step: of the last good checkpoint; None where there is none.
    """
    if saved_step is None:
        kept, again = "nothing was saved before", "Begin again"
    else:
        kept, again = f"the last good checkpoint, of step {saved_step}, stays", "Go on from there"
    resume, changes = f"cifartui resume {info.id}", _half_rate(info, plan, min(stage, len(plan) - 1), stage_optimizer)
    if changes:
        advice = f"{again} with half the learning rate: {resume} --set {changes[0]}"
    else:
        advice = f"{again} with {resume}, and halve the learning rate at once; or train with a smaller optimizer.lr."
    return Alerted(severity="error", kind="non-finite-loss", text=f"{error}; {kept}.", advice=advice, changes=changes)


def _half_rate(
    info: RunInfo, plan: Sequence[PlannedStage], stage: int, stage_optimizer: StageOptimizer
) -> tuple[str, ...]:
    """Return the change with which a resume goes on at half the rate; none where the stage states its own rate."""
    written = info.preset.stages[stage] if info.preset.stages else None
    if written is not None and (written.lr is not None or written.optimizer is not None):
        return ()
    # What `StageOptimizer.restore` makes of a changed rate: a plateau begins at it, others take it as the peak they had.
    before = plan[stage].optimizer.lr * stage_optimizer.lr_scale
    if isinstance(plan[stage].schedule, Plateau):
        before = stage_optimizer.lr
    return (f"optimizer.lr={before / 2:.4g}",)
