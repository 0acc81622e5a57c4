"""A run's checkpoints as the loop writes and reads them: which there are, what is in them, what is journalled."""

import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from torch import nn

from engine.runs.events import CheckpointSaved
from engine.runs.folder import RunFolder
from engine.runs.journal import EventWriter
from engine.training import checkpoint
from engine.training.progress import Progress
from presets.errors import CifartuiError
from presets.plan import PlannedStage, plan

FORMAT = 1
_EVERY_S = 300.0


def check_format(state: dict[str, Any]) -> None:
    """Raise CifartuiError where `state`, read from last.pt, was written by another version."""
    if state.get("format") != FORMAT:
        raise CifartuiError(
            "last.pt was written by another version of cifartui and cannot be resumed by this one; "
            "its best.pt can still be evaluated, or given to model.weights."
        )


class Checkpoints:
    """Writes last.pt, best.pt and, for stages that begin with it, stage-best.pt."""

    def __init__(self, folder: RunFolder, journal: EventWriter, class_names: tuple[str, ...]) -> None:
        self._folder = folder
        self._journal = journal
        self._class_names = class_names
        self._saved_at = time.monotonic()

    def last_is_due(self) -> bool:
        """Return whether last.pt has grown old."""
        return time.monotonic() - self._saved_at > _EVERY_S

    def save_last(self, state: dict[str, Any], progress: Progress) -> None:
        """Write what a resumed worker goes on from; the one before lives on as last.prev.pt."""
        self._write("last", {"format": FORMAT, **state}, progress)
        self._saved_at = time.monotonic()

    def save_best(self, kind: Literal["best", "stage-best"], network: nn.Module, progress: Progress) -> None:
        """Write the weights of the epoch just validated, which are the best of the run or of its stage."""
        val_top1 = progress.best_val_top1 if kind == "best" else progress.stage_best_val_top1
        content = {
            "format": FORMAT,
            "network": network.state_dict(),
            "epoch": progress.epoch,
            "global_step": progress.global_step,
            "val_top1": val_top1,
            "class_names": list(self._class_names),
        }
        self._write(kind, content, progress, val_top1)

    def load_best(self, kind: Literal["best", "stage-best"], network: nn.Module) -> bool:
        """Fill `network` with the weights of `save_best`; return False where none were saved.

        Raises:
            CifartuiError: the file is damaged or of another network.
        """
        path = self._folder.checkpoints / f"{kind}.pt"
        if not path.exists():
            return False
        try:
            network.load_state_dict(checkpoint.load(path)["network"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise CifartuiError(f"{path} does not fit this run's preset; resume from another checkpoint.") from error
        return True

    def stage_of(self, state: dict[str, Any], planned: Sequence[PlannedStage], number: int) -> PlannedStage:
        """Return the stage under way in last.pt, `state`, as it was planned when that was written.

        Args:
            state: what `save_last` was given, read back.
            planned: the stages as they are planned now.
            number: which of them is under way.

        Raises:
            msgspec.ValidationError: the stage in it is not one.
        """
        if "stage" in state:
            return msgspec.convert(state["stage"], PlannedStage)
        if self._folder.amended.exists():  # the first checkpoints did not hold it
            return plan(self._folder.read_original().preset)[number]
        return planned[number]

    def _write(
        self, kind: Literal["last", "best", "stage-best"], content: dict[str, Any], progress: Progress,
        val_top1: float | None = None,
    ) -> None:  # fmt: skip
        path, started = self._folder.checkpoints / f"{kind}.pt", time.monotonic()
        num_bytes = checkpoint.save(content, path, keep_previous=kind == "last")
        self._journal.write(
            CheckpointSaved(
                kind=kind,
                path=f"checkpoints/{path.name}",
                epoch=progress.epoch,
                global_step=progress.global_step,
                num_bytes=num_bytes,
                seconds=time.monotonic() - started,
                val_top1=val_top1,
            )
        )
