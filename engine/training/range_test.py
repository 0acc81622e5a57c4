"""Training loop of a learning-rate range test: some thousand batches at a rising rate.

No validation, no checkpoints, no alerts: the weights are of no use, and the loss is meant to rise in the end. The
journal has it as one epoch, whatever the number of passes over the images.
"""

from collections.abc import Iterator

from msgspec.structs import replace
from torch import Tensor
from torch.amp import GradScaler

from engine.journal.events import DataProgressed, RunFinished
from engine.journal.jsonl import EventWriter
from engine.runs.lr_suggestion import MOST_POINTS, has_diverged
from engine.training.controls import Aborted, Controls, Stopped
from engine.training.input_pipeline import Freezable, InputPipeline, epoch_order, of_epoch
from engine.training.metrics import Meter, Sums
from engine.training.optimizers import StageOptimizer
from engine.training.progress import Progress
from engine.training.reports import ReportInterval, stage_started, steps_trained
from engine.training.setup import Setup
from engine.training.step import Stepper
from engine.training.step_timer import StepTimer
from presets.plan import plan
from presets.range_test import rate_at
from presets.schema import RangeTest

_LARGEST_LOSS = 1e30
"""Loss that ends the test: larger ones may exceed the journal's numbers."""


class RangeTestRun:
    """A range test under way."""

    def __init__(self, setup: Setup, table: RangeTest, journal: EventWriter, controls: Controls) -> None:
        """Prepare the test that the schedule `table` of the run's preset asks for."""
        self._setup, self._table = setup, table
        self._journal, self._controls = journal, controls
        self._stage = replace(plan(setup.info.preset)[0], name="range test", epochs=1)
        self._last_lr = self._stage.optimizer.lr
        num_images = len(setup.data.train.labels)
        self._batch_size = min(setup.info.preset.train.batch_size, num_images)
        self._steps_per_pass = num_images // self._batch_size
        self._report_every = max(1, table.steps // MOST_POINTS)
        if isinstance(setup.network, Freezable):
            setup.network.freeze(self._stage.frozen)
        scaler = GradScaler(setup.device.type, enabled=setup.precision == "fp16")
        self._stage_optimizer = StageOptimizer(
            self._stage,
            setup.network.parameters(),
            setup.device,
            scaler,
            table.steps,
            clip_norm=setup.info.preset.train.clip_norm,
        )
        self._pipeline = InputPipeline(setup, setup.network, journal.write)
        self.step_timer = StepTimer(setup.device)
        self._stepper = Stepper(setup, journal, self.step_timer, None)
        self._stepper.begin_stage()
        self._progress = Progress()
        self._losses: list[float] = []
        self._end = ""
        """Reason of an end before the last batch, as a clause; else empty."""

    def run(self) -> RunFinished:
        """Train until the loss has risen, the batches are over, or a stop is asked for; return the last event.

        Raises:
            CifartuiError: memory runs out.
        """
        controls = self._controls
        controls.epoch, controls.stages_left = 1, 0
        controls.busy_with = "a range test keeps no weights, and moves its learning rate itself"
        try:
            self._train()
        except Stopped:
            return self._finished("stopped", controls.stop_reason)
        except Aborted:
            return self._finished("aborted", "aborted by command")
        lr = f"{self._lr_behind(self._progress.step):.3g}"
        return self._finished("completed", self._end or f"all {self._table.steps:,} batches are trained, up to lr {lr}")

    def _finished(self, outcome: str, reason: str) -> RunFinished:
        step = self._progress.global_step
        return RunFinished(outcome=outcome, reason=reason, epoch=1, global_step=step)  # type: ignore[arg-type]

    def _train(self) -> None:
        """Take the steps.

        Raises:
            Stopped: the user asked for it.
        """
        setup, progress, controls = self._setup, self._progress, self._controls
        self._journal.write(stage_started(progress, [self._stage], self._table.steps, None))
        inputs = self._pipeline.train(self._stage, 0, self._on_features)
        setup.network.train()
        self._meter, self._interval = Meter(setup.device), ReportInterval(Sums(0.0, 0, 0), 0)
        for number, rows in enumerate(self._batches()):
            if still_s := controls.poll():
                self._interval.skip(still_s)
                self.step_timer.skip(still_s)
            if controls.stop_after == "batch":
                self._report(self._meter.read())
                raise Stopped
            epoch = number // self._steps_per_pass
            seen = of_epoch(inputs, setup.info.preset, self._stage, epoch + 1, 0)
            self._stepper.step(seen, rows, number, self._stage_optimizer, self._meter)
            progress.step = progress.global_step = controls.global_step = number + 1
            if progress.step % self._report_every == 0 and not self._meter.is_pending:
                self._meter.request()
            self._report(self._meter.arrived())
            if self._end:
                return
        self._report(self._meter.read())

    def _batches(self) -> Iterator[Tensor]:
        """Yield the rows (int64 [B], where the images are) of every step; a pass leaves out what fills no batch."""
        for step in range(self._table.steps):
            epoch, place = divmod(step, self._steps_per_pass)
            if place == 0:
                order = epoch_order(self._setup, epoch + 1)
            yield order[place * self._batch_size : (place + 1) * self._batch_size]

    def _on_features(self, event: DataProgressed) -> None:
        self._journal.write(event)
        self._controls.poll()
        if self._controls.stop_after is not None:
            raise Stopped

    # --- what is told --------------------------------------------------------------------------------

    def _report(self, sums: Sums | None) -> None:
        """Journal the steps up to `sums`, and end the test if the loss has risen; later steps are not journalled."""
        if sums is None or self._end:
            return
        step = sums.num_images // self._batch_size
        window = self._interval.take(sums, step)
        if window is None:
            return
        loss = window.sums.mean_loss()
        if not abs(loss) < _LARGEST_LOSS:  # NaN neither
            self._end = f"the loss was no longer a number at lr {self._lr_behind(step):.3g}"
            return
        lr = rate_at(self._table, self._last_lr, step - (window.num_steps + 1) / 2)
        self._journal.write(steps_trained(self._progress, window, step, lr, self.step_timer.take()))
        self._losses.append(loss)
        if has_diverged(self._losses):
            self._end = f"the loss had risen to {loss:.3g} at lr {self._lr_behind(step):.3g}"

    def _lr_behind(self, step: int) -> float:
        """Return the rate of the last of so many steps."""
        return rate_at(self._table, self._last_lr, max(0, step - 1))
