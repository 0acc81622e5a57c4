"""The training loop: stages of epochs of batches, validation, checkpoints, and the test at the end.

Nothing is read back from the device in a step; what the journal says comes from sums that were copied
while the device went on. Randomness is a function of (seed, epoch, step), so where a run was
interrupted does not show in its result. With several devices every rank goes through the same loop (`Parallel`):
decisions by the clock are rank 0's, and the journal and the checkpoints are its own.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from engine.journal.events import DataProgressed, RunFinished
from engine.journal.jsonl import EventWriter
from engine.runs.run_dir import RunDir
from engine.runs.seed_groups import is_search
from engine.training.alerts import LearningWatch
from engine.training.checkpoint_manager import Best, Checkpoints
from engine.training.controls import Controls, Stopped
from engine.training.flop_count import FlopCount
from engine.training.input_pipeline import InputPipeline, SplitInputs, epoch_order, of_epoch
from engine.training.metrics import Meter, Sums
from engine.training.non_finite import NonFiniteError, all_finite, explain
from engine.training.parallel import Parallel
from engine.training.progress import Progress, seconds_left, spent, why_stage_ends
from engine.training.reports import (
    Reporter,
    epoch_completed,
    run_finished,
    stage_started,
)
from engine.training.resume import check_best_weights, take_changed_data
from engine.training.setup import Setup
from engine.training.step import Stepper
from engine.training.step_timer import StepTimer
from engine.training.train_state import TrainState
from engine.training.validation import Validator
from presets.errors import CifartuiError
from presets.plan import plan


class Trainer:
    """A run under way."""

    def __init__(
        self,
        setup: Setup,
        folder: RunDir,
        journal: EventWriter,
        controls: Controls,
        watch: LearningWatch | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        self._parallel = parallel or Parallel()
        self._setup = setup
        self._folder = folder
        self._journal = journal
        self._controls = controls
        self._is_tested = setup.data.has_test_accuracy and not is_search(setup.info.group)
        """False for a short run of a learning-rate search: test images are for the training that it is for."""
        if not self._is_tested:
            controls.then = ""
        self._train = setup.info.preset.train
        self._batch_size = self._train.batch_size
        self._reporter = Reporter(journal, watch or LearningWatch(), self._batch_size)
        self._tell = self._reporter.tell
        self._train_state = TrainState(setup, plan(setup.info.preset), self._parallel)
        self._plan, self._steps_per_epoch = self._train_state.plan, self._train_state.steps_per_epoch
        self._pipeline = InputPipeline(setup, self._train_state.evaluated, journal.write)
        self.step_timer = StepTimer(setup.device)
        self._checkpoints = Checkpoints(folder, journal, setup.data_record, setup.device, self._parallel)
        self._flop_count = FlopCount(setup, self._pipeline, self._parallel.num_ranks)
        self._validator = Validator(setup, self._pipeline, journal, controls, self._parallel, self._flop_count)
        self._stepper = Stepper(setup, journal, self.step_timer, self._train_state.ema, self._parallel)
        self._saved_step = -1
        """The step that was handed over last to be saved."""
        self._early = ""
        """Reason, if training ended before its last epoch because the preset wanted that."""
        self._budget_spent = 0.0
        """The share of the time that training may take; 0 where there is no limit."""
        self._enter_stage()
        self._open_epoch()

    def _enter_stage(self) -> None:
        """Let steps, and what is counted of them, begin anew with the network and the optimizer of a stage."""
        self._stepper.begin_stage()
        self._flop_count.begin_stage(self.progress.stage, self._train_state.stage_optimizer)

    @property
    def progress(self) -> Progress:
        """Progress of training."""
        return self._train_state.progress

    def _open_epoch(self) -> None:
        """Let the sums and the clock of the epoch under way go on from where it was left; a new one has none."""
        progress = self.progress
        self._meter = Meter(self._setup.device, progress.epoch_sums, self._parallel)
        self._reporter.open_epoch(progress)
        self._epoch_started = time.monotonic() - progress.epoch_seconds
        self.step_timer.rest()

    @property
    def _epoch_seconds(self) -> float:
        """Of the epoch under way, so far."""
        return time.monotonic() - self._epoch_started

    # --- the state that checkpoints hold -------------------------------------------------------------

    def restore(self, state: dict[str, Any], num_train: int | None = None) -> None:
        """Go on from a checkpoint, whose stage may since have been given other numbers.

        Args:
            state: of the checkpoint.
            num_train: training images at that time if the data has changed since; else None.

        Raises:
            CifartuiError: it belongs to another network or another version.
        """
        self._train_state.restore(state, self._checkpoints.stage_of, num_train)
        check_best_weights(self._train_state, self._checkpoints)
        progress = self.progress
        self._enter_stage()
        self._stepper.at_once.num_images = progress.at_once or self._batch_size
        self._checkpoints.last_step = progress.global_step
        self._controls.epoch, self._controls.global_step = progress.num_epochs, progress.global_step
        self._open_epoch()
        if num_train is not None:
            take_changed_data(state, self._train_state, self._checkpoints, self._evaluate, self._tell)
            self._save_on_command()  # so that it is asked once

    def _save_last(self, *best: Best) -> None:
        """Hand last.pt over to be written, and its weights as the best ones where they are.

        What was trained is reported before, so that the journal of a resumed run has every step once.

        Raises:
            NonFiniteError: the loss is none; nothing is written.
        """
        progress = self.progress
        progress.epoch_sums, progress.epoch_seconds = self._meter.read(), self._epoch_seconds
        progress.at_once = self._stepper.at_once.num_images
        self._report(progress.epoch_sums)
        self._checkpoints.save(self._train_state.state_dict(), progress, best)
        self._saved_step = progress.global_step

    # --- the run -----------------------------------------------------------------------------------

    def run(self) -> RunFinished:
        """Train to the end or until stopped, test the best weights, and return the run's last event.

        Raises:
            Aborted: the user asked to end at once.
            SecondSignal: a second signal asked for that; last.pt is written.
            CifartuiError: training cannot go on: the loss is no longer a number, memory or disk is full.
        """
        self._controls.share()
        self._controls.save_checkpoint = self._save_on_command
        self._controls.scale_lr = self._scale_lr_on_command
        try:
            with self._checkpoints:
                with suppress(Stopped):
                    while self.progress.stage < len(self._plan):
                        self._train_stage()
                return self._finish()
        except NonFiniteError as error:
            stage, optimizer = self.progress.stage, self._train_state.stage_optimizer
            alert = explain(error, self._setup.info, self._plan, stage, optimizer, self._checkpoints.last_step)
            self._journal.write(alert)
            raise CifartuiError(f"{alert.text} {alert.advice}") from error

    def _train_stage(self) -> None:
        """Train what is left of the stage under way, and prepare the next one.

        Raises:
            Stopped: the user asked for it.
        """
        self._raise_if_stopped()
        progress, stage = self.progress, self._plan[self.progress.stage]
        self._controls.stages_left = len(self._plan) - 1 - progress.stage
        self._controls.busy_with = "the images of this stage are being prepared"
        left = seconds_left(self._train, progress, self._epoch_seconds)
        self._tell(stage_started(progress, self._plan, self._steps_per_epoch, left))
        inputs = self._pipeline.train(stage, progress.stage, self._report_until_stopped)
        inputs = inputs._replace(network=self._parallel.wrap(inputs.network))
        while progress.epoch < progress.stage_first_epoch + stage.epochs and not self._controls.next_stage:
            self._raise_if_stopped()
            if self._is_stage_over():
                break
            self._begin_epoch()
            stage_epoch = progress.epoch - progress.stage_first_epoch
            self._train_epoch(of_epoch(inputs, self._setup.info.preset, stage, progress.epoch, stage_epoch))
            self._complete_epoch()
        self._complete_stage()

    def _raise_if_stopped(self) -> None:
        if self._controls.stop_after is not None:
            raise Stopped

    def _is_stage_over(self) -> bool:
        """Return whether no further epoch of the stage is begun, because time or patience is."""
        why = why_stage_ends(self._train, self.progress, self._epoch_seconds)
        is_over, self._budget_spent = self._parallel.agree(bool(why), self._share_of_budget)
        self._early = why if is_over else ""
        return bool(is_over)

    @property
    def _share_of_budget(self) -> float:
        return spent(self._train, self.progress, self._epoch_seconds)

    def _complete_stage(self) -> None:
        """Move on to the next stage, with the weights that it begins with, and save that."""
        progress = self.progress
        self._controls.next_stage = False
        progress.stage += 1
        if progress.stage == len(self._plan):
            return
        if progress.step:  # the epoch was cut short by the command for the next stage
            progress.next_epoch()
        self._train_state.begin_stage(partial(self._checkpoints.load_best, "stage-best"))
        self._enter_stage()
        self._open_epoch()
        self._save_on_command()  # before anybody is told of the new stage: the command for it is not to be lost again

    def _begin_epoch(self) -> None:
        self._controls.epoch = self.progress.epoch
        self._open_epoch()

    def _train_epoch(self, inputs: SplitInputs) -> None:
        """Train the batches that are left of this epoch, or until a stop or the command for the next stage."""
        progress = self.progress
        order = epoch_order(self._setup, progress.epoch).to(inputs.split.images.device)
        self._setup.network.train()
        self._controls.validate = lambda: self._validator.validate_between_batches(progress)
        while progress.step < self._steps_per_epoch:
            if still_s := self._controls.poll():
                self._epoch_started += still_s
                self._reporter.interval.skip(still_s)
                self.step_timer.skip(still_s)
            if self._controls.stop_after == "batch" or self._controls.next_stage or self._budget_spent >= 1:
                break
            start = progress.step * self._batch_size
            if inputs.host is not None and progress.step + 1 < self._steps_per_epoch:
                self._stepper.expect(inputs, order[start + self._batch_size :][: self._batch_size])
            self._train_batch(inputs, order[start : start + self._batch_size])
            progress.step += 1
            progress.global_step += 1
            self._controls.global_step = progress.global_step
            self._checkpoints.make_room(self._train_state.state_dict)
            self._report_and_save_if_due()
        self._controls.validate, self._controls.busy_with = None, "the epoch is being validated already"
        self._report(self._meter.read())
        self._save_where_stopped()

    # --- a batch -----------------------------------------------------------------------------------

    def _train_batch(self, inputs: SplitInputs, rows: Tensor) -> None:
        """Take one optimizer step on the training images at `rows` (int64 [B], where the images are)."""
        progress = self.progress
        self._stepper.step(
            inputs, rows, progress.global_step, self._train_state.stage_optimizer, self._meter, self._budget_spent
        )
        self._flop_count.trained(progress, len(rows), inputs.size)

    def _report_and_save_if_due(self) -> None:
        """Do what the clock says: rank 0's, for all ranks, at the steps at which they have just taken in commands."""
        save: float = False
        if self._controls.was_round:
            report, save, self._budget_spent = self._parallel.agree(
                self._reporter.interval.is_due() and not self._meter.is_pending,
                self._checkpoints.last_is_due(),
                self._share_of_budget,
            )
            if report:
                self._meter.request()
        self._report(self._meter.arrived())
        if save:
            self._save_last()

    def _report(self, sums: Sums | None) -> None:
        """Journal what was trained up to `sums`, which on a GPU may be some steps behind.

        Raises:
            NonFiniteError: the loss is none.
        """
        self._reporter.report(sums, self.progress, self._train_state.stage_optimizer.lr, self.step_timer.take)

    def _complete_epoch(self) -> None:
        """Validate, say so, keep the best, and move on; a stop within the epoch leaves it open."""
        progress = self.progress
        if progress.step == 0:
            return
        train, lr = self._meter.read(), self._train_state.stage_optimizer.lr
        val = self._evaluate("val", self._save_where_stopped)
        if not val.is_finite() and not all_finite(self._setup.network.state_dict().values()):
            raise NonFiniteError(f"The weights are no longer numbers since the last step of epoch {progress.epoch}")
        is_best, is_stage_best = progress.note_best(val.top1(), val.balanced, self._train.best_by)
        best: list[Best] = ["best"] if is_best else []
        if is_stage_best and self._train_state.next_begins_with_best:
            best.append("stage-best")
        partial = progress.step < self._steps_per_epoch
        seconds = self._epoch_seconds
        event = epoch_completed(
            progress, train, val, self._train.best_by, lr=lr, seconds=seconds, is_best=is_best, partial=partial
        )
        self._tell(event)
        progress.epoch_seconds = seconds
        if not partial:
            self._train_state.stage_optimizer.epoch_done(val.score(self._train.best_by))
            progress.next_epoch()
            self._open_epoch()
        self._save_last(*best)

    def _evaluate(self, split: Literal["val", "test"], poll: Callable[[], None] | None = None) -> Sums:
        return self._validator.measure(split, self.progress, poll)

    def _report_until_stopped(self, event: DataProgressed) -> None:
        self._validator.report_features(event)
        self._raise_if_stopped()

    def _save_where_stopped(self) -> None:
        """Save what is trained before it is validated, or while it is: who sent a signal may not wait for the end."""
        progress = self.progress
        if self._controls.stop_after == "batch" and progress.step and progress.global_step != self._saved_step:
            with torch.inference_mode(False):  # what is copied into is used again, also outside of an evaluation
                self._save_on_command()

    def _save_on_command(self) -> str:
        self._save_last()
        self._checkpoints.drain()
        return "checkpoints/last.pt is written"

    def _scale_lr_on_command(self, factor: float) -> str:
        before = self._train_state.stage_optimizer.lr
        self._train_state.stage_optimizer.scale_lr(factor)
        self._save_on_command()  # a resumed worker must not go on at the old rate, or forget it in part
        where = " until this stage ends" if self._controls.stages_left else ""
        return f"lr {before:.4g} → {self._train_state.stage_optimizer.lr:.4g}{where}"

    # --- the end -----------------------------------------------------------------------------------

    def _finish(self) -> RunFinished:
        """Test the best weights, or the last ones if those are lost, and return the last event."""
        controls = self._controls
        controls.stages_left, controls.busy_with = 0, "training is over"
        controls.save_checkpoint = controls.scale_lr = None  # the network is about to hold the best weights
        test: Sums | None = None
        tested: Literal["best", "last"] = "best"
        if self.progress.global_step and self._is_tested:
            instead = "The test accuracy is that of the last weights."
            if not self._checkpoints.load_best("best", self._train_state.evaluated, instead):
                tested = "last"
            test = self._evaluate("test")
        return run_finished(self.progress, len(self._plan), controls.stop_reason, self._early, test, tested)
