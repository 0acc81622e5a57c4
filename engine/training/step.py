"""One optimizer step on one batch: images, augmentation, forward, backward, weights, sums. Knows no epochs."""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.runs.journal import EventWriter
from engine.training.descent import Descent
from engine.training.ema import Ema
from engine.training.graphs import RecordedStep, Taken
from engine.training.inputs import Inputs
from engine.training.metrics import Meter
from engine.training.mixing import mix_batch
from engine.training.options import records_steps
from engine.training.out_of_memory import AtOnce, parts, smallest_part
from engine.training.parallel import Parallel
from engine.training.randomness import reseed, seed_at
from engine.training.setup import Setup
from engine.training.stopwatch import Stopwatch


class Stepper:
    """Takes steps, with as many images at once as memory has room for. Nothing in a step waits for the device.

    With several ranks each takes a step on its own part of the batch, and the run ends if memory runs out.
    """

    def __init__(
        self,
        setup: Setup,
        journal: EventWriter,
        stopwatch: Stopwatch,
        ema: Ema | None,
        parallel: Parallel | None = None,
    ) -> None:
        self._setup = setup
        self._ema = ema
        self._parallel = parallel or Parallel()
        self._stopwatch = stopwatch
        self._batch_size = setup.info.preset.train.batch_size
        self.at_once = AtOnce(self._batch_size, setup.device, journal.write, "training", smallest_part(setup.network))
        self._recorded: RecordedStep | None = None

    def begin_stage(self) -> None:
        """Forget what was recorded with the inputs and the optimizer of another stage."""
        is_wanted = records_steps(self._setup)
        self._recorded = RecordedStep(self._batch_size, self._setup.device) if is_wanted else None

    def expect(self, inputs: Inputs, rows: Tensor) -> None:
        """Say which images (`rows`, as for `step`) the step takes that comes after those expected before."""
        inputs.expect(self._parallel.shard(len(rows)).of(rows))

    def step(
        self, inputs: Inputs, rows: Tensor, global_step: int, descent: Descent, meter: Meter, budget_spent: float = 0.0
    ) -> None:
        """Train on the images at `rows` (int64 [B], where the images are), and add what they came to to `meter`.

        Args:
            inputs: of the stage.
            rows: of the batch, the same in every rank.
            global_step: how many steps were taken before; decides everything that is drawn.
            descent: moves the weights.
            meter: of the epoch.
            budget_spent: share of the time that training may take, where that is limited.

        Raises:
            CifartuiError: memory runs out even with the smallest part of a batch.
        """
        self._stopwatch.step_begins()
        seed = seed_at(self._setup.info.seed, "step", global_step)
        if self._recorded is None:
            taken = self._take(inputs, rows, seed, descent)
        else:
            reseed(self._setup.device, seed)
            self._stopwatch.has_data()  # a recording cannot be looked into
            taken = self._recorded.take(
                rows,
                descent,
                plain=lambda: self._take(inputs, rows, seed, descent),
                compute=lambda kept: self._compute(inputs, kept, seed, descent, self.at_once.num_images, _nothing),
            )
        descent.advance(budget_spent)
        if self._ema is not None:
            self._ema.update(global_step + 1)
        meter.add(*taken, len(rows))
        self._stopwatch.step_ends()

    def _take(self, inputs: Inputs, rows: Tensor, seed: int, descent: Descent) -> Taken:
        """Move the weights, with fewer images at once where memory runs out."""

        def attempt(num_images: int) -> Taken:
            reseed(self._setup.device, seed)
            return self._add_gradients(inputs, rows, seed, descent, num_images, self._stopwatch.has_data)

        if self._parallel.num_ranks == 1:
            taken = self.at_once.run(attempt, len(rows), undo=descent.forget_gradients)
        else:  # a rank that began its step anew would be out of step with the others
            taken = attempt(len(rows))
        descent.step()
        return taken

    def _compute(
        self, inputs: Inputs, rows: Tensor, seed: int, descent: Descent, num_images: int, has_data: Callable[[], None]
    ) -> Taken:
        """Do all that the device does in a step."""
        taken = self._add_gradients(inputs, rows, seed, descent, num_images, has_data)
        descent.step()
        return taken

    def _add_gradients(
        self, inputs: Inputs, rows: Tensor, seed: int, descent: Descent, num_images: int, has_data: Callable[[], None]
    ) -> Taken:
        """Add up the gradients of the batch's mean loss, `num_images` at a time; return loss, logits and labels.

        The whole batch is augmented at once, so that what is drawn for it does not depend on its parts.
        """
        setup, shard = self._setup, self._parallel.shard(len(rows))
        images, labels = inputs.take(shard.of(rows))
        with self._parallel.draws(shard, seed):
            images = inputs.transform(images)
        targets = labels
        if inputs.mix is not None:
            images, targets = mix_batch(images, labels, inputs.mix, len(setup.data.class_names))
        has_data()
        losses, logits = [], []
        for some, theirs, share in parts(images, targets, num_images):
            with setup.autocast():
                output = inputs.network(some)
                loss = shard.mean_loss(setup.criterion, output, theirs)
            if share < 1:
                loss = loss * share
            descent.add_gradients(loss if shard.weight == 1 else loss * shard.weight)
            losses.append(loss.detach())
            logits.append(output.detach())
        if len(losses) == 1:
            return losses[0], shard.own(logits[0]), shard.own(labels)
        return torch.stack(losses).sum(), torch.cat(logits), labels


def _nothing() -> None:
    pass
