"""The training loop of one rank: that of one process, with its part of every batch, and sums over all ranks.

Every decision that goes by the clock is rank 0's, and is shared where the ranks are in step anyway.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.data.mixup import mix_batch
from engine.data.sets import ImageSplit
from engine.journal.events import DataProgressed, EvaluationProgressed
from engine.journal.jsonl import EventWriter
from engine.runs.run_dir import RunDir
from engine.training.alerts import LearningWatch
from engine.training.checkpoint_manager import Best, Checkpoints
from engine.training.distributed.controls import SharedControls
from engine.training.distributed.process_group import ProcessGroup
from engine.training.distributed.sharding import GlobalBatchDraws, shard_of
from engine.training.ema import Ema
from engine.training.input_pipeline import InputPipeline, SplitInputs
from engine.training.metrics import Meter, Sums
from engine.training.optimizers import StageOptimizer
from engine.training.progress import Progress
from engine.training.reports import ReportInterval
from engine.training.seeds import reseed, seed_at
from engine.training.setup import Setup
from engine.training.step import Stepper
from engine.training.step_timer import StepTimer
from engine.training.trainer import Trainer
from engine.training.validation import Validator, evaluate

_PARTS = 10**9
"""In which a share is told, as a whole number."""


class SharedMeter(Meter):
    """Sums of what this rank saw; `request` and `read` give those of all, and are called by all."""

    def __init__(self, ranks: ProcessGroup, device: torch.device, start: Sums | None = None) -> None:
        start = start or Sums(0.0, 0, 0)
        super().__init__(device, start if ranks.place.is_first else Sums(0.0, 0, start.num_images))
        self._ranks = ranks

    def add_share(self, loss: Tensor, logits: Tensor, labels: Tensor, num_images: int) -> None:
        """Add this rank's part of a batch of `num_images`; see `add`."""
        if len(labels):
            self.add(loss, logits, labels)
        self._num_images += num_images - len(labels)

    def _total(self) -> Tensor:
        return self._ranks.add_up(torch.stack((self._loss, self._hits)))

    def request(self) -> None:
        """Start a copy of the sums over all ranks, unless one is already on its way here."""
        total = self._total()
        if self._pending is None:
            self._landing.copy_(total, non_blocking=True)
            if self._landed is not None:
                self._landed.record()
            self._pending = self._num_images

    def read(self) -> Sums:
        """Return the sums over all ranks now, waiting for the device."""
        loss, hits = self._total().tolist()
        return Sums(loss, int(hits), self._num_images)


class SharedCheckpoints(Checkpoints):
    """Written by rank 0; what is read from them, all have from it."""

    def __init__(self, ranks: ProcessGroup, setup: Setup, folder: RunDir, journal: EventWriter) -> None:
        super().__init__(folder, journal, setup.data.class_names, setup.device)
        self._ranks = ranks
        self.is_due = False
        """What rank 0 said at the last round."""

    def grew_old(self) -> bool:
        """Return whether last.pt has, by this rank's clock."""
        return super().last_is_due()

    def last_is_due(self) -> bool:
        """Return whether all are to save now."""
        due, self.is_due = self.is_due, False
        return due

    def make_room(self, state: Callable[[], dict[str, Any]]) -> None:
        """Take the memory for it, in rank 0."""
        if self._ranks.place.is_first:
            super().make_room(state)

    def save(self, state: dict[str, Any], progress: Progress, best: Sequence[Best] = ()) -> None:
        """Write it, in rank 0."""
        if self._ranks.place.is_first:
            super().save(state, progress, best)

    def load_best(self, kind: Best, network: nn.Module) -> bool:
        """Fill `network` with the best weights saved, in all ranks; return False where none were."""
        is_first = self._ranks.place.is_first
        (found,) = self._ranks.ask_first(is_first and super().load_best(kind, network))
        if found:
            self._ranks.take_weights_from_first(network)
        return found


class SharedHeldOut(Validator):
    """Measures the network on held-out images, every rank on its part of them."""

    def __init__(
        self, ranks: ProcessGroup, setup: Setup, pipeline: InputPipeline, journal: EventWriter, controls: SharedControls
    ) -> None:
        super().__init__(setup, pipeline, journal, controls)
        self._ranks = ranks
        self._shared_controls = controls

    def measure(self, split: Literal["val", "test"], poll: Callable[[], None] | None = None) -> Sums:
        """Return the sums over the whole split, in every rank; see `Validator.measure`.

        All ranks go through equally many rounds, and poll after each, however few images are left for one.
        """
        place, size = self._ranks.place, self._setup.eval_batch_size
        inputs = self._pipeline.held_out(split, self.report_features)
        self._ranks.take_from_first(list(inputs.network.buffers()))  # BatchNorm's statistics of rank 0 are the run's
        num_images = len(inputs.split)
        share = shard_of(num_images, place.rank, place.num_ranks)
        sums = torch.zeros(3, dtype=torch.float64)
        next_event = time.monotonic() + ReportInterval.SHORTEST_S
        self._shared_controls.poll_at_once()
        for start in range(0, -(-num_images // place.num_ranks), size):
            rows = slice(share.start + start, min(share.start + start + size, share.stop))
            if rows.start < rows.stop:
                sums += torch.tensor(self._sums(inputs, rows), dtype=torch.float64)
            self._shared_controls.poll()
            if poll is not None:
                poll()
            if time.monotonic() >= next_event:
                next_event = time.monotonic() + ReportInterval.SHORTEST_S
                done = min((start + size) * place.num_ranks, num_images)
                self._journal.write(EvaluationProgressed(split=split, done=done, total=num_images))
        self._shared_controls.poll_at_once()
        loss, hits, seen = self._ranks.add_up(sums).tolist()
        return Sums(loss, int(hits), int(seen))

    def _sums(self, inputs: SplitInputs, rows: slice) -> Sums:
        return evaluate(
            inputs.network,
            ImageSplit(inputs.split.images[rows], inputs.split.labels[rows]),
            inputs.transform,
            self._setup.criterion,
            at_once=self._at_once,
            autocast=self._setup.autocast,
            progress=lambda _done: None,
            flip_average=self._setup.info.preset.train.flip_average,
        )

    def report_features(self, event: DataProgressed) -> None:
        """Tell of features, which every rank computes for itself; meanwhile only Abort is heard."""
        self._journal.write(event)
        self._shared_controls.poll_alone()


class SharedStepper(Stepper):
    """Takes a step on this rank's part of every batch. Where memory runs out, the run ends."""

    def __init__(
        self, ranks: ProcessGroup, setup: Setup, journal: EventWriter, step_timer: StepTimer, ema: Ema | None
    ) -> None:
        super().__init__(setup, journal, step_timer, ema)
        self._place = ranks.place
        self._averaged: DistributedDataParallel | None = None

    def expect(self, inputs: SplitInputs, rows: Tensor) -> None:
        """Say it of this rank's part; see `Stepper.expect`."""
        inputs.expect(shard_of(len(rows), self._place.rank, self._place.num_ranks).of(rows))

    def step(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        global_step: int,
        stage_optimizer: StageOptimizer,
        meter: Meter,
        budget_spent: float = 0.0,
    ) -> None:
        """Train on this rank's part of the images at `rows`, which are the same in every rank; see `Stepper.step`."""
        setup, place = self._setup, self._place
        share = shard_of(len(rows), place.rank, place.num_ranks)
        seed = seed_at(setup.info.seed, "step", global_step)
        network = self._with_averaged_gradients(inputs.network)
        self._step_timer.step_begins()
        reseed(setup.device, seed)
        images, labels = inputs.take(share.of(rows))
        with GlobalBatchDraws(share):
            images = inputs.transform(images)
        if not place.is_first:
            reseed(setup.device, seed_at(seed, "rank", place.rank))  # mixing and dropout are others in every rank
        targets = labels
        if inputs.mix is not None:  # with others of this part
            images, targets = mix_batch(images, labels, inputs.mix, len(setup.data.class_names))
        self._step_timer.has_data()
        with setup.autocast():
            logits = network(images)
            loss = share.mean_loss(setup.criterion, logits, targets)
        stage_optimizer.add_gradients(loss * share.weight(place.num_ranks))
        stage_optimizer.step()
        stage_optimizer.advance(budget_spent)
        if self._ema is not None:
            self._ema.update(global_step + 1)
        assert isinstance(meter, SharedMeter)
        meter.add_share(loss, logits[: share.num_own], labels[: share.num_own], share.total)
        self._step_timer.step_ends()

    def _with_averaged_gradients(self, network: nn.Module) -> DistributedDataParallel:
        if self._averaged is None or self._averaged.module is not network:
            device = self._setup.device
            self._averaged = DistributedDataParallel(
                network,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # rank 0's count, and are handed out when somebody needs them
            )
        return self._averaged


class RankTrainer(Trainer):
    """A run under way, in one of its ranks."""

    def __init__(
        self,
        setup: Setup,
        folder: RunDir,
        journal: EventWriter,
        controls: SharedControls,
        watch: LearningWatch,
        ranks: ProcessGroup,
    ) -> None:
        self._ranks = ranks
        self._shared_budget_spent = 0.0
        self._shared_controls = controls
        super().__init__(setup, folder, journal, controls, watch)

    def _new_checkpoints(self) -> Checkpoints:
        self._shared_checkpoints = SharedCheckpoints(self._ranks, self._setup, self._folder, self._journal)
        return self._shared_checkpoints

    def _new_held_out(self) -> Validator:
        return SharedHeldOut(self._ranks, self._setup, self._pipeline, self._journal, self._shared_controls)

    def _new_stepper(self) -> Stepper:
        return SharedStepper(self._ranks, self._setup, self._journal, self.step_timer, self._train_state.ema)

    def _new_meter(self, start: Sums) -> Meter:
        return SharedMeter(self._ranks, self._setup.device, start)

    def _report_is_due(self) -> bool:
        """Return whether all are to add up their sums now; rank 0's clock decides that, and when to save."""
        if not self._shared_controls.was_round:
            return False
        report, save, spent = self._ranks.agree(
            [self._interval.is_due(), self._shared_checkpoints.grew_old(), round(super()._budget_spent * _PARTS)]
            if self._ranks.place.is_first
            else [0, 0, 0]
        )
        self._shared_checkpoints.is_due, self._shared_budget_spent = bool(save), spent / _PARTS
        return bool(report)

    @property
    def _budget_spent(self) -> float:
        """The share of the time that training may take, by rank 0's clock at the last round."""
        return self._shared_budget_spent

    def _why_stage_ends(self) -> str:
        (is_over,) = self._ranks.ask_first(bool(why := super()._why_stage_ends()))
        return (why or "rank 0 says so") if is_over else ""
