"""A run's checkpoints as the loop writes and reads them: which there are, what is in them, what is journalled.

The loop only copies its state; one thread writes it to the disk, in the order in which it was handed over.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import torch
from msgspec.structs import replace
from torch import nn

from engine.journal.data_record import DataRecord
from engine.journal.events import Alerted, CheckpointSaved
from engine.journal.fold_file import keep_up
from engine.journal.jsonl import EventWriter
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import FORMAT, check_weights
from engine.training.checkpoint_staging import StagedState, StagingBuffers
from engine.training.device import use_device
from engine.training.non_finite import NonFiniteError, all_finite
from engine.training.parallel import Parallel
from engine.training.progress import Progress
from presets.errors import CifartuiError
from presets.plan import PlannedStage, plan

_EVERY_S = 300.0

Best: TypeAlias = Literal["best", "stage-best"]


class _File(NamedTuple):
    """A checkpoint to be written, the snapshot that its tensors are of, and what the journal will say."""

    content: dict[str, Any]
    snapshot: StagedState
    saved: CheckpointSaved


class Checkpoints:
    """Writes last.pt, best.pt and, for stages that begin with it, stage-best.pt; with several ranks, rank 0 does.

    A context manager: what was handed over is on the disk when it ends, however it ends. An error of the writing
    thread comes out of the next call.
    """

    def __init__(
        self,
        folder: RunDir,
        journal: EventWriter,
        data_record: DataRecord,
        device: torch.device,
        parallel: Parallel | None = None,
    ) -> None:
        self._parallel = parallel or Parallel()
        self._folder = folder
        self._journal = journal
        self._of_data = {"class_names": list(data_record.class_names), "data": msgspec.to_builtins(data_record)}
        self._staging = StagingBuffers(device)
        self._saved_at = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "checkpoints", use_device, (device,))
        self._lock = threading.Lock()
        self._waiting: list[_File] = []
        """Handed over, and not begun."""
        self._writes: list[Future[None]] = []
        self._has_room = False
        self._failure: Exception | None = None
        self.last_step: int | None = None
        """Of the newest last.pt on the disk; None where there is none."""

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, _traceback: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._raise_if_failed()

    def last_is_due(self) -> bool:
        """Return whether last.pt has grown old. Costs a clock reading.

        Raises:
            CifartuiError: a write failed.
        """
        self._raise_if_failed()
        return time.monotonic() - self._saved_at > _EVERY_S

    def make_room(self, state: Callable[[], dict[str, Any]]) -> None:
        """Take the memory for the first copy of what `state` returns, behind the loop; no more than once.

        To be called after a step, when the optimizer has its tensors.
        """
        if not self._has_room and self._parallel.is_first:
            self._has_room = True
            self._thread.submit(self._staging.make_room, state())

    def save(self, state: dict[str, Any], progress: Progress, best: Sequence[Best] = ()) -> None:
        """Hand over what a resumed worker goes on from, and its weights as the best ones where they are.

        What was handed over before and is not begun yet is not written any more: last.pt would be replaced at
        once, and best weights are written if they are still the best. Best weights come before last.pt, which
        counts on them. The last.pt before lives on as last.prev.pt.

        Args:
            state: tensors and plain values; copied before this returns.
            progress: where training is.
            best: of what the network in `state` is the best: of the run, of its stage, as just validated.

        Raises:
            CifartuiError: an earlier write failed.
            NonFiniteError: weights that were to be written are none.
        """
        if not self._parallel.is_first:
            return
        self._raise_if_failed()
        self._saved_at = time.monotonic()
        taken = self._staging.take({"format": FORMAT, **state, **self._of_data})
        pause_seconds = time.monotonic() - self._saved_at
        files = [self._best(kind, taken, progress) for kind in best]
        files.append(_File(taken.content, taken, self._event("last", progress, pause_seconds)))
        kinds = {file.saved.kind for file in files}
        with self._lock:
            is_awaited = bool(self._waiting)
            self._waiting = [*(file for file in self._waiting if file.saved.kind not in kinds), *files]
        if not is_awaited:
            self._writes = [write for write in self._writes if not write.done()]
            self._writes.append(self._thread.submit(self._write))

    def drain(self) -> None:
        """Wait until everything handed over is on the disk.

        Raises:
            CifartuiError: a write failed.
            NonFiniteError: weights that were to be written are none.
        """
        wait(self._writes)
        self._raise_if_failed()

    def load_best(self, kind: Best, network: nn.Module, instead: str) -> bool:
        """Fill `network`, in all ranks, with the best weights saved.

        Args:
            kind: of the run, or of the stage.
            network: with the shapes of the run's.
            instead: the sentence of an alert that says what follows if the weights are lost.

        Returns:
            False, and the alert is written, if they cannot be used; the file is then put aside as NAME.damaged.

        Raises:
            CifartuiError: a write failed.
        """
        self.drain()
        weights, is_there = self._read_best(kind, network, instead)
        if is_there:
            if weights is not None:
                network.load_state_dict(weights)
            self._parallel.from_rank0(network.state_dict().values())
        return is_there

    def has_best(self, kind: Best, network: nn.Module, instead: str) -> bool:
        """Return true if best weights can be loaded into `network`; see `load_best`."""
        return self._read_best(kind, network, instead)[1]

    def _read_best(self, kind: Best, network: nn.Module, instead: str) -> tuple[dict[str, Any] | None, bool]:
        """Return best weights in rank 0, and in all ranks true if they can be used."""
        weights = None
        if self._parallel.is_first:
            try:
                weights = self._weights(kind, network)
            except CifartuiError as error:
                path, text = self._path(kind), f"{error} {instead}"
                if path.exists():
                    path.replace(path.with_suffix(".damaged"))
                self._journal.write(Alerted(severity="warning", kind="damaged-checkpoint", text=text))
        (is_there,) = self._parallel.agree(weights is not None)
        return weights, bool(is_there)

    def _path(self, kind: Best) -> Path:
        return self._folder.checkpoints / f"{kind}.pt"

    def _weights(self, kind: Best, network: nn.Module) -> dict[str, Any]:
        """Return the best weights; raise CifartuiError unless they are finite numbers for `network`."""
        path = self._path(kind)
        content = checkpoint_files.load(path)
        try:
            check_weights(content.get("network"), network)
        except ValueError as error:
            raise CifartuiError(f"{path} does not fit this run's preset: {error}.") from error
        weights: dict[str, Any] = content["network"]
        return weights

    def stage_of(self, state: dict[str, Any], planned: Sequence[PlannedStage], number: int) -> PlannedStage:
        """Return the stage under way in last.pt, `state`, as it was planned when that was written.

        Args:
            state: what `save` was given, read back.
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

    def _best(self, kind: Best, taken: StagedState, progress: Progress) -> _File:
        """Return the checkpoint of the weights in `taken`, which shares them with last.pt."""
        val_top1, val_balanced = progress.best_val_top1, progress.best_val_balanced
        if kind == "stage-best":
            val_top1, val_balanced = progress.stage_best_val_top1, progress.stage_best_val_balanced
        content = {
            "format": FORMAT,
            "network": checkpoint_files.evaluated(taken.content),
            "epoch": progress.num_epochs,
            "global_step": progress.global_step,
            "val_top1": val_top1,
            "val_balanced": val_balanced,
            **self._of_data,
        }
        saved = self._event(kind, progress, 0.0)
        return _File(content, taken, replace(saved, val_top1=val_top1, val_balanced=val_balanced))

    def _event(
        self,
        kind: Literal["last", "best", "stage-best"],
        progress: Progress,
        pause_seconds: float,
    ) -> CheckpointSaved:
        """Return what will be said once the checkpoint is written."""
        return CheckpointSaved(
            kind=kind,
            path=f"checkpoints/{kind}.pt",
            epoch=progress.num_epochs,
            global_step=progress.global_step,
            num_bytes=0,
            seconds=0.0,
            pause_seconds=pause_seconds,
        )

    # --- in the writing thread ---------------------------------------------------------------------

    def _write(self) -> None:
        """Write what waits, in its order."""
        with self._lock:
            files, self._waiting = self._waiting, []
        if self._failure is not None:  # a last.pt without the best weights that it counts on would be worse than none
            return
        try:
            for file in files:
                self._write_one(file)
        except Exception as error:
            self._failure = error

    def _write_one(self, file: _File) -> None:
        file.snapshot.wait()
        saved, started = file.saved, time.monotonic()
        if not all_finite(file.content["network"].values()):
            raise NonFiniteError(f"The weights are no longer numbers (after step {saved.global_step})")
        path = self._folder.path / saved.path
        num_bytes = checkpoint_files.save(file.content, path, keep_previous=saved.kind == "last")
        self._journal.write(replace(saved, num_bytes=num_bytes, seconds=time.monotonic() - started))
        if saved.kind == "last":
            self.last_step = saved.global_step
            keep_up(self._folder.events)

    def _raise_if_failed(self) -> None:
        if self._failure is None:
            return
        if isinstance(self._failure, OSError):
            why = self._failure.strerror or self._failure
            raise CifartuiError(
                f"A checkpoint cannot be written to {self._folder.checkpoints}: {why}; "
                f"mend that, then go on with: cifartui resume {self._folder.id}"
            ) from self._failure
        raise self._failure
