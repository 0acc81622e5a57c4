"""Loss and accuracy of a network on a split: eval mode, plain transform, nothing read back until the end.

`Validator` does it in the middle of a run: it journals progress and keeps polling commands.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from engine.data.sets import ImageSplit
from engine.journal.events import DataProgressed, EvaluationProgressed
from engine.journal.jsonl import EventWriter
from engine.training.controls import Controls, Stopped
from engine.training.input_pipeline import InputPipeline
from engine.training.metrics import Meter, Sums
from engine.training.microbatch import MicroBatch
from engine.training.progress import Progress
from engine.training.reports import ReportInterval, validated
from engine.training.setup import Setup


def evaluate(
    network: nn.Module,
    split: ImageSplit,
    transform: Callable[[Tensor], Tensor],
    criterion: nn.Module,
    *,
    at_once: MicroBatch,
    autocast: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int], None],
    on_logits: Callable[[Tensor], None] | None = None,
    flip_average: bool = False,
) -> Sums:
    """Return summed loss and hits of `network` over `split`.

    Args:
        network: put into eval mode here, and back into the mode it was in.
        split: images uint8 [N, 3, H, W] (or features float [N, F]) on any device, labels int64 [N] on the network's.
        transform: from a batch of the split's images to the network's float input.
        criterion: mean loss from logits [B, C] and labels [B].
        at_once: images through the network at once; fewer where memory runs out.
        autocast: context of the forward pass.
        progress: told after every batch how many images are done; may raise to end the evaluation.
        on_logits: given the logits of every batch, float32 [B, C].
        flip_average: run every image mirrored too, and go by the mean of the two logits.
    """
    device, num_images = split.labels.device, len(split.labels)

    def forward(start: int, num_rows: int) -> Tensor:
        inputs = transform(split.images[start : start + num_rows].to(device, non_blocking=True))
        with autocast():
            logits: Tensor = network(inputs)
            if flip_average:
                logits = (logits + network(inputs.flip(3))) / 2
        return logits

    was_training = network.training
    network.eval()
    meter, done = Meter(device), 0
    try:
        with torch.inference_mode():
            while done < num_images:
                logits = at_once.run(partial(forward, done), num_images - done)
                labels = split.labels[done : done + len(logits)]
                meter.add(criterion(logits.float(), labels), logits, labels)
                if on_logits is not None:
                    on_logits(logits.float())
                done += len(labels)
                progress(done)
    finally:
        network.train(was_training)
    return meter.read()


class Validator:
    """Measures the network under training, however often."""

    def __init__(self, setup: Setup, pipeline: InputPipeline, journal: EventWriter, controls: Controls) -> None:
        self._setup = setup
        self._pipeline = pipeline
        self._journal = journal
        self._controls = controls
        self._at_once = MicroBatch(setup.eval_batch_size, setup.device, journal.write)

    def measure(self, split: Literal["val", "test"], poll: Callable[[], None] | None = None) -> Sums:
        """Return the sums over a split; `poll`, called now and then, may raise to end the evaluation.

        Raises:
            Aborted: the user asked for it.
            CifartuiError: memory runs out even with one image at once.
        """
        inputs = self._pipeline.held_out(split, self.report_features)
        next_event = time.monotonic() + ReportInterval.SHORTEST_S

        def progress(done: int) -> None:
            nonlocal next_event
            self._controls.poll()
            if poll is not None:
                poll()
            if time.monotonic() >= next_event:
                next_event = time.monotonic() + ReportInterval.SHORTEST_S
                self._journal.write(EvaluationProgressed(split=split, done=done, total=len(inputs.split)))

        return evaluate(
            inputs.network,
            inputs.split,
            inputs.transform,
            self._setup.criterion,
            at_once=self._at_once,
            autocast=self._setup.autocast,
            progress=progress,
            flip_average=self._setup.info.preset.train.flip_average,
        )

    def validate_between_batches(self, progress: Progress) -> None:
        """Measure the validation set because somebody asked; a wish to stop ends it, for that validates anyway."""

        def poll() -> None:
            if self._controls.stop_after == "batch" or self._controls.next_stage:
                raise Stopped

        started = time.monotonic()
        try:
            val = self.measure("val", poll)
        except Stopped:
            return
        self._journal.write(validated(progress, val, time.monotonic() - started))

    def report_features(self, event: DataProgressed) -> None:
        """Tell of features that are computed, and listen."""
        self._journal.write(event)
        self._controls.poll()
