"""The training loop: epochs of batches, validation, checkpoints, and the test at the end.

Nothing is read back from the device in a step; what the journal says comes from sums that were copied
while the device went on. Randomness is a function of (seed, epoch, step), so where a run was
interrupted does not show in its result.
"""

import math
import time
from typing import Any, Literal

import msgspec
import torch
from torch.amp import GradScaler

from engine.runs.events import (
    Alerted,
    CheckpointSaved,
    EpochCompleted,
    EvaluationProgressed,
    RunFinished,
    StageStarted,
    StepsTrained,
)
from engine.runs.folder import RunFolder
from engine.runs.journal import EventWriter
from engine.training import checkpoint
from engine.training.controls import Controls
from engine.training.evaluate import evaluate
from engine.training.metrics import Meter, Sums
from engine.training.optim import Schedule, build_optimizer
from engine.training.pace import Pace
from engine.training.progress import Progress, num_batches
from engine.training.randomness import permutation, reseed, seed_at
from engine.training.setup import Setup
from presets.errors import CifartuiError

_CHECKPOINT_EVERY_S = 300.0
_FORMAT = 1


class Trainer:
    """A run under way."""

    def __init__(self, setup: Setup, folder: RunFolder, journal: EventWriter, controls: Controls) -> None:
        self._setup = setup
        self._folder = folder
        self._journal = journal
        self._controls = controls
        preset = setup.info.preset
        self._epochs = preset.train.epochs
        self._batch_size = preset.train.batch_size
        self._steps_per_epoch = num_batches(len(setup.data.train.labels), self._batch_size)
        self._optimizer = build_optimizer(preset.optimizer, setup.network.parameters(), setup.device)
        self._schedule = Schedule(
            preset.schedule, self._optimizer, steps_per_epoch=self._steps_per_epoch, epochs=self._epochs
        )
        self._scaler = GradScaler(setup.device.type, enabled=setup.precision == "fp16")
        self.progress = Progress()
        self._meter = Meter(setup.device)
        self._epoch_started = time.monotonic()
        self._saved_at = time.monotonic()

    # --- resuming ----------------------------------------------------------------------------------

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CifartuiError: it belongs to another network or another version.
        """
        if state.get("format") != _FORMAT:
            raise CifartuiError("last.pt was written by another version of cifartui and cannot be resumed by this one.")
        try:
            self._setup.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self._scaler.load_state_dict(state["scaler"])
            self.progress = msgspec.convert(state["progress"], Progress)
        except (KeyError, ValueError, RuntimeError, msgspec.ValidationError) as error:
            raise CifartuiError(f"last.pt does not fit this run's preset: {error}") from error

    def _state(self) -> dict[str, Any]:
        self.progress.epoch_sums = self._meter.read()
        self.progress.epoch_seconds = time.monotonic() - self._epoch_started
        return {
            "format": _FORMAT,
            "network": self._setup.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "progress": msgspec.to_builtins(self.progress),
        }

    # --- the run -----------------------------------------------------------------------------------

    def run(self) -> RunFinished:
        """Train to the end or until stopped, test the best weights, and return the run's last event.

        Raises:
            Aborted: the user asked to end at once.
            CifartuiError: training cannot go on (the loss is no longer a number).
        """
        self._controls.save_checkpoint = self._save_on_command
        stage = StageStarted(
            stage=0,
            num_stages=1,
            name="train",
            first_epoch=1,
            epochs=self._epochs,
            steps_per_epoch=self._steps_per_epoch,
        )
        self._journal.write(stage)
        while self.progress.epoch <= self._epochs and self._controls.stop_after is None:
            self._begin_epoch()
            self._train_epoch()
            self._complete_epoch()
        return self._finish()

    def _begin_epoch(self) -> None:
        self._controls.epoch = self.progress.epoch
        self._meter = Meter(self._setup.device, start=self.progress.epoch_sums)
        self._epoch_started = time.monotonic() - self.progress.epoch_seconds

    def _train_epoch(self) -> None:
        """Train the batches that are left of this epoch, or until a stop."""
        progress, train = self.progress, self._setup.data.train
        order = permutation(len(train.labels), self._setup.info.seed, progress.epoch).to(self._setup.device)
        pace = Pace(self._meter.read(), progress.step)
        self._setup.network.train()
        while progress.step < self._steps_per_epoch:
            if paused_s := self._controls.poll():
                self._epoch_started += paused_s
                pace.skip(paused_s)
            if self._controls.stop_after == "batch":
                break
            start = progress.step * self._batch_size
            self._train_batch(order[start : start + self._batch_size])
            progress.step += 1
            progress.global_step += 1
            self._controls.global_step = progress.global_step
            if pace.is_due():
                self._meter.request()
            self._report(pace, self._meter.arrived())
            if time.monotonic() - self._saved_at > _CHECKPOINT_EVERY_S:
                self._save_last()
        self._report(pace, self._meter.read())

    def _train_batch(self, rows: torch.Tensor) -> None:
        """Take one optimizer step on the training images at `rows` (int64 [B])."""
        setup = self._setup
        reseed(setup.device, seed_at(setup.info.seed, "step", self.progress.global_step))
        images = setup.train_transform(setup.data.train.images.index_select(0, rows))
        labels = setup.data.train.labels.index_select(0, rows)
        with setup.autocast():
            logits = setup.network(images)
            loss = setup.criterion(logits, labels)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step_done()
        self._meter.add(loss, logits, labels)

    def _report(self, pace: Pace, sums: Sums | None) -> None:
        """Journal what was trained up to `sums`, which on a GPU may be some steps behind."""
        step = 0 if sums is None else math.ceil(sums.num_images / self._batch_size)
        window = None if sums is None else pace.take(sums, step)
        if window is None:
            return
        self._journal.write(
            StepsTrained(
                epoch=self.progress.epoch,
                step=step,
                global_step=self.progress.global_step - (self.progress.step - step),
                num_steps=window.num_steps,
                num_images=window.sums.num_images,
                loss=window.sums.mean_loss(),
                top1=window.sums.top1(),
                lr=self._lr,
                images_per_s=window.images_per_s,
            )
        )
        if not window.sums.is_finite():
            self._give_up_on_loss()

    def _give_up_on_loss(self) -> None:
        kept = "the best and the last good checkpoint stay" if self._folder.last.exists() else "nothing was saved yet"
        text = f"The training loss is no longer a number (epoch {self.progress.epoch}, step {self.progress.step})"
        advice = "Train again with a smaller optimizer.lr."
        self._journal.write(Alerted(severity="error", kind="non-finite-loss", text=text, advice=advice))
        raise CifartuiError(f"{text}; {kept}. {advice}")

    @property
    def _lr(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def _complete_epoch(self) -> None:
        """Validate, say so, keep the best, and move on; a stop within the epoch leaves it open."""
        progress = self.progress
        if progress.step == 0:
            return
        train, lr = self._meter.read(), self._lr
        val = self._evaluate("val")
        val_top1 = val.top1()
        is_best = progress.best_val_top1 is None or val_top1 > progress.best_val_top1
        if is_best:
            progress.best_epoch, progress.best_val_top1 = progress.epoch, val_top1
        partial = progress.step < self._steps_per_epoch
        self._journal.write(
            EpochCompleted(
                epoch=progress.epoch,
                global_step=progress.global_step,
                train_loss=train.mean_loss(),
                train_top1=train.top1(),
                val_loss=val.mean_loss(),
                val_top1=val_top1,
                lr=lr,
                seconds=time.monotonic() - self._epoch_started,
                is_best=is_best,
                partial=partial,
            )
        )
        if is_best:
            self._save_best(progress.epoch, val_top1)
        if not partial:
            self._schedule.epoch_done(val_top1)
            progress.epoch, progress.step = progress.epoch + 1, 0
            self._meter = Meter(self._setup.device)
            self._epoch_started = time.monotonic()
        self._save_last()

    def _evaluate(self, split: Literal["val", "test"]) -> Sums:
        images = self._setup.data.val if split == "val" else self._setup.data.test
        next_event = time.monotonic() + Pace.SHORTEST_S

        def progress(done: int) -> None:
            nonlocal next_event
            self._controls.poll()
            if time.monotonic() >= next_event:
                next_event = time.monotonic() + Pace.SHORTEST_S
                self._journal.write(EvaluationProgressed(split=split, done=done, total=len(images)))

        return evaluate(
            self._setup.network,
            images,
            self._setup.plain_transform,
            self._setup.criterion,
            batch_size=self._setup.eval_batch_size,
            autocast=self._setup.autocast,
            progress=progress,
        )

    # --- checkpoints -------------------------------------------------------------------------------

    def _save_last(self) -> None:
        self._write("last", self._state())
        self._saved_at = time.monotonic()

    def _save_best(self, epoch: int, val_top1: float) -> None:
        content = {
            "format": _FORMAT,
            "network": self._setup.network.state_dict(),
            "epoch": epoch,
            "val_top1": val_top1,
            "class_names": list(self._setup.data.class_names),
        }
        self._write("best", content, val_top1)

    def _write(self, kind: Literal["last", "best"], content: dict[str, Any], val_top1: float | None = None) -> None:
        path, started = self._folder.checkpoints / f"{kind}.pt", time.monotonic()
        num_bytes = checkpoint.save(content, path, keep_previous=kind == "last")
        self._journal.write(
            CheckpointSaved(
                kind=kind,
                path=f"checkpoints/{path.name}",
                epoch=self.progress.epoch,
                global_step=self.progress.global_step,
                num_bytes=num_bytes,
                seconds=time.monotonic() - started,
                val_top1=val_top1,
            )
        )

    def _save_on_command(self) -> str:
        self._save_last()
        return "checkpoints/last.pt is written"

    # --- the end -----------------------------------------------------------------------------------

    def _finish(self) -> RunFinished:
        """Test the best weights and return the last event."""
        progress = self.progress
        stopped = progress.epoch <= self._epochs
        test: Sums | None = None
        if self._folder.best.exists() and not self._setup.data.test_labels_hidden:
            self._setup.network.load_state_dict(checkpoint.load(self._folder.best)["network"])
            test = self._evaluate("test")
        return RunFinished(
            outcome="stopped" if stopped else "completed",
            reason=self._controls.stop_reason if stopped else f"all {self._epochs} epochs are trained",
            epoch=min(progress.epoch, self._epochs),
            global_step=progress.global_step,
            best_epoch=progress.best_epoch,
            best_val_top1=progress.best_val_top1,
            test_loss=test.mean_loss() if test else None,
            test_top1=test.top1() if test else None,
        )
