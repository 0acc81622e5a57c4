"""One optimizer step on one batch: images, augmentation, forward, backward, weights, sums. Knows no epochs."""

import torch
from torch import Tensor

from engine.runs.journal import EventWriter
from engine.training.descent import Descent
from engine.training.inputs import Inputs
from engine.training.metrics import Meter
from engine.training.out_of_memory import AtOnce, parts, smallest_part
from engine.training.randomness import reseed, seed_at
from engine.training.setup import Setup
from engine.training.stopwatch import Stopwatch


class Stepper:
    """Takes steps, with as many images at once as memory has room for. Nothing in a step waits for the device."""

    def __init__(self, setup: Setup, journal: EventWriter, stopwatch: Stopwatch) -> None:
        self._setup = setup
        self._stopwatch = stopwatch
        batch_size = setup.info.preset.train.batch_size
        self.at_once = AtOnce(batch_size, setup.device, journal.write, "training", smallest_part(setup.network))

    def step(self, inputs: Inputs, rows: Tensor, global_step: int, descent: Descent, meter: Meter) -> None:
        """Train on the images at `rows` (int64 [B], where the images are), and add what they came to to `meter`.

        Args:
            inputs: of the stage.
            rows: of the batch.
            global_step: how many steps were taken before; decides everything that is drawn.
            descent: moves the weights.
            meter: of the epoch.

        Raises:
            CifartuiError: memory runs out even with the smallest part of a batch.
        """
        self._stopwatch.step_begins()
        loss, logits, labels = self.at_once.run(
            lambda num_images: self._add_gradients(inputs, rows, global_step, descent, num_images),
            len(rows),
            undo=descent.forget_gradients,
        )
        descent.step()
        meter.add(loss, logits, labels)
        self._stopwatch.step_ends()

    def _add_gradients(
        self, inputs: Inputs, rows: Tensor, global_step: int, descent: Descent, num_images: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add up the gradients of the batch's mean loss, `num_images` at a time; return loss, logits and labels.

        The whole batch is augmented at once, so that what is drawn for it does not depend on its parts.
        """
        setup = self._setup
        reseed(setup.device, seed_at(setup.info.seed, "step", global_step))
        images, labels = inputs.take(rows)
        with setup.autocast():
            images = inputs.transform(images)
        self._stopwatch.has_data()
        losses, logits = [], []
        for some, theirs, share in parts(images, labels, num_images):
            with setup.autocast():
                output = inputs.network(some)
                loss = setup.criterion(output, theirs)
            if share < 1:
                loss = loss * share
            descent.add_gradients(loss)
            losses.append(loss.detach())
            logits.append(output.detach())
        if len(losses) == 1:
            return losses[0], logits[0], labels
        return torch.stack(losses).sum(), torch.cat(logits), labels
