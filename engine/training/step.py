"""One optimizer step on one batch, run eagerly or replayed from a recording (`engine.training.recorded_step`).

Images, augmentation, forward, backward, weights, sums; no epochs.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from engine.data.mixup import mix_batch
from engine.journal.jsonl import EventWriter
from engine.training.class_balance import of_batch
from engine.training.ema import Ema
from engine.training.input_pipeline import SplitInputs
from engine.training.metrics import GradientNorm, Meter, is_hit
from engine.training.microbatch import MicroBatch, capital_device, is_out_of_memory, parts, smallest_part
from engine.training.optimizers import StageOptimizer
from engine.training.parallel import Parallel
from engine.training.recorded_step import RecordedStep, Taken
from engine.training.seeds import reseed, seed_at
from engine.training.setup import Setup, compile_errors_explained, records_steps
from engine.training.step_timer import StepTimer
from presets.errors import CifartuiError

_Forwarded: TypeAlias = tuple[Tensor, Tensor, int]
"""Loss, hits and number of images of a step, as in `Taken`."""


class Stepper:
    """Takes steps, with as many images at once as memory has room for. Nothing in a step waits for the device.

    With several ranks each takes a step on its own part of the batch, and the run ends if memory runs out.
    """

    def __init__(
        self,
        setup: Setup,
        journal: EventWriter,
        step_timer: StepTimer,
        ema: Ema | None,
        parallel: Parallel | None = None,
    ) -> None:
        self._setup = setup
        self._ema = ema
        self._parallel = parallel or Parallel()
        self._step_timer = step_timer
        self._batch_size = setup.info.preset.train.batch_size
        self._say = journal.write
        self.at_once = MicroBatch(
            self._batch_size, setup.device, journal.write, "training", smallest_part(setup.network)
        )
        self._recorded: RecordedStep | None = None

    def begin_stage(self) -> None:
        """Forget what was recorded with the inputs and the optimizer of another stage."""
        if self._recorded is None or not self._recorded.is_given_up:  # what failed once is not tried again
            self._recorded = self._recording() if records_steps(self._setup) else None

    def _recording(self) -> RecordedStep:
        setup = self._setup
        return RecordedStep(self._batch_size, setup.network, setup.device, self._say, partial(reseed, setup.device))

    def expect(self, inputs: SplitInputs, rows: Tensor) -> None:
        """Say which images (`rows`, as for `step`) the step takes that comes after those expected before."""
        inputs.expect(self._parallel.shard(len(rows)).of(rows))

    def step(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        global_step: int,
        stage_optimizer: StageOptimizer,
        meter: Meter,
        budget_spent: float = 0.0,
    ) -> None:
        """Train on the images at `rows` (int64 [B], where the images are), and add what they came to to `meter`.

        Args:
            inputs: of the stage.
            rows: of the batch, the same in every rank.
            global_step: how many steps were taken before; decides everything that is drawn.
            stage_optimizer: moves the weights.
            meter: of the epoch.
            budget_spent: share of the time that training may take, where that is limited.

        Raises:
            CifartuiError: memory runs out even with the smallest part of a batch.
        """
        self._step_timer.step_begins()
        seed = seed_at(self._setup.info.seed, "step", global_step)
        if self._recorded is None:
            taken = self._take(inputs, rows, seed, stage_optimizer)
        else:
            reseed(self._setup.device, seed)
            self._step_timer.has_data()  # a recording cannot be looked into
            taken = self._recorded.take(
                inputs,
                rows,
                seed,
                stage_optimizer,
                plain=lambda: self._take(inputs, rows, seed, stage_optimizer),
                compute=lambda seen, kept: self._compute(
                    seen, kept, seed, stage_optimizer, self.at_once.num_images, _nothing
                ),
            )
        stage_optimizer.advance(budget_spent)
        if self._ema is not None:
            self._ema.update(global_step + 1)
        meter.add_sums(taken.loss, taken.hits, taken.num_images, len(rows))
        meter.add_norm(taken.norm)
        self._step_timer.step_ends()

    def _take(self, inputs: SplitInputs, rows: Tensor, seed: int, stage_optimizer: StageOptimizer) -> Taken:
        """Move the weights, with fewer images at once where memory runs out."""

        def attempt(num_images: int) -> _Forwarded:
            reseed(self._setup.device, seed)
            return self._add_gradients(inputs, rows, seed, stage_optimizer, num_images, self._step_timer.has_data)

        if self._parallel.num_ranks == 1:
            seen = self.at_once.run(attempt, len(rows), undo=stage_optimizer.forget_gradients)
        else:  # a rank that began its step anew would be out of step with the others
            seen = attempt(len(rows))
        return Taken(*seen, self._move_weights(stage_optimizer))

    def _move_weights(self, stage_optimizer: StageOptimizer) -> GradientNorm:
        """Update the weights; the first time the optimizer allocates its state, beside weights and gradients.

        Raises:
            CifartuiError: memory runs out, which fewer images at once would not change: none are held any more.
        """
        try:
            return stage_optimizer.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise CifartuiError(
                f"{capital_device(self._setup.device)} ran out of memory in the optimizer's step, whatever the batch: "
                "free memory on it (nvidia-smi shows who holds it), or train again with a smaller network, or "
                'with optimizer.name = "sgd", which keeps the least beside the weights.'
            ) from error

    def _compute(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        seed: int,
        stage_optimizer: StageOptimizer,
        num_images: int,
        has_data: Callable[[], None],
    ) -> Taken:
        """Do all that the device does in a step."""
        seen = self._add_gradients(inputs, rows, seed, stage_optimizer, num_images, has_data)
        return Taken(*seen, stage_optimizer.step())

    def _add_gradients(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        seed: int,
        stage_optimizer: StageOptimizer,
        num_images: int,
        has_data: Callable[[], None],
    ) -> _Forwarded:
        """Add up the gradients of the batch's mean loss, `num_images` at a time; return loss and hits.

        The whole batch is augmented at once, so that what is drawn for it does not depend on its parts.
        """
        setup, shard = self._setup, self._parallel.shard(len(rows))
        images, labels, targets = network_input(inputs, rows, seed, len(setup.data.class_names), self._parallel)
        has_data()
        criterion = of_batch(setup.criterion, lambda: inputs.labels(rows))
        losses, logits = [], []
        for some, theirs, share in parts(images, targets, num_images):
            with setup.autocast():
                output = inputs.network(some)
                loss = shard.mean_loss(criterion, output, theirs)
            if share < 1:
                loss = loss * share
            with compile_errors_explained():
                stage_optimizer.add_gradients(loss if shard.weight == 1 else loss * shard.weight)
            losses.append(loss.detach())
            logits.append(output.detach())
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        own = shard.own(labels)
        hits = is_hit(shard.own(torch.cat(logits) if len(logits) > 1 else logits[0]), own).sum()
        return loss, hits, len(own)


def network_input(
    inputs: SplitInputs, rows: Tensor, seed: int, num_classes: int, parallel: Parallel
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a rank's network is given in a step: images, augmented and mixed, labels and targets of its shard.

    Args:
        inputs: of the epoch.
        rows: of the whole batch, int64 [B], where the images are.
        seed: of the step; the generators have just been set to it.
        num_classes: C.
        parallel: the ranks.

    Returns:
        Images float [N, 3, S, S] (or features), labels int64 [N], and targets: the labels, or float [N, C] if mixed.
    """
    shard = parallel.shard(len(rows))
    images, labels = inputs.take(shard.of(rows))
    with parallel.draws(shard, seed):
        images = inputs.transform(images)
    if inputs.mix is None:
        return images, labels, labels
    images, targets = mix_batch(images, labels, inputs.mix, num_classes)
    return images, labels, targets


def _nothing() -> None:
    pass
