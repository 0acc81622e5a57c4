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
from engine.training.class_balance import balanced_accuracy, class_counts, of_batch
from engine.training.controls import Controls, Stopped
from engine.training.device import copy_to
from engine.training.flop_count import FlopCount
from engine.training.input_pipeline import InputPipeline
from engine.training.metrics import Meter, Sums
from engine.training.microbatch import MicroBatch
from engine.training.parallel import Parallel
from engine.training.progress import Progress
from engine.training.reports import ReportInterval, validated
from engine.training.setup import Setup


def logits_of(
    network: nn.Module,
    images: Tensor,
    transform: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
    *,
    flip_average: bool,
) -> Tensor:
    """Return the logits [B, C] by which images are judged, in the dtype of the forward pass.

    Args:
        network: in eval mode.
        images: uint8 [B, 3, H, W] (or features float [B, F]) on the network's device.
        transform: from these to the network's float input.
        autocast: context of the forward pass.
        flip_average: run every image mirrored too, and return the mean of the two logits.
    """
    inputs = transform(images)
    with autocast():
        logits: Tensor = network(inputs)
        if flip_average:
            logits = (logits + network(inputs.flip(3))) / 2
    return logits


def evaluate(
    network: nn.Module,
    split: ImageSplit,
    transform: Callable[[Tensor], Tensor],
    criterion: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_size: int,
    at_once: MicroBatch,
    autocast: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int], None],
    on_logits: Callable[[Tensor], None] | None = None,
    flip_average: bool = False,
    parallel: Parallel | None = None,
    num_classes: int = 0,
) -> Sums:
    """Return summed loss and hits of `network` over `split`, of which every rank takes a part.

    Args:
        network: put into eval mode here, and back into the mode it was in.
        split: images uint8 [N, 3, H, W] (or features float [N, F]) on any device, labels int64 [N] on the network's.
        transform: from a batch of the split's images to the network's float input.
        criterion: mean loss from logits [B, C] and labels [B]; with class weights, of the whole split.
        batch_size: images between two calls of `progress`, of each rank.
        at_once: images through the network at once; fewer if memory runs out.
        autocast: context of the forward pass.
        progress: given how many images are done, equally often in every rank; may raise to end the evaluation.
        on_logits: given the logits of every batch, float32 [B, C].
        flip_average: run every image mirrored too, and go by the mean of the two logits.
        parallel: the ranks; one process if left out.
        num_classes: of the split, to measure balanced accuracy too; 0 if that is not wanted.
    """
    device, num_images, parallel = split.labels.device, len(split), parallel or Parallel()

    def forward(start: int, stop: int, num_rows: int) -> Tensor:
        images = copy_to(split.images[start : min(start + num_rows, stop)], device)
        return logits_of(network, images, transform, autocast, flip_average=flip_average)

    was_training = network.training
    network.eval()
    meter, shard = Meter(device, num_classes=num_classes), parallel.shard(num_images)
    criterion = of_batch(criterion, lambda: split.labels)
    most_rows = -(-num_images // parallel.num_ranks)
    try:
        with torch.inference_mode():
            for first in range(0, most_rows, batch_size):
                done, stop = shard.start + first, min(shard.start + first + batch_size, shard.stop)
                while done < stop:
                    logits = at_once.run(partial(forward, done, stop), stop - done)
                    labels = split.labels[done : done + len(logits)]
                    meter.add(criterion(logits.float(), labels), logits, labels)
                    if on_logits is not None:
                        on_logits(logits.float())
                    done += len(labels)
                progress(min((first + batch_size) * parallel.num_ranks, num_images))
    finally:
        network.train(was_training)
    totals = torch.tensor(meter.read()[:3], dtype=torch.float64)
    if meter.class_hits is not None:
        totals = torch.cat((totals, meter.class_hits.cpu().double()))
    loss, hits, num_seen, *class_hits = parallel.reduce(totals).tolist()
    balanced = balanced_accuracy(class_hits, class_counts(split.labels, num_classes)) if class_hits else None
    return Sums(loss, int(hits), int(num_seen), balanced)


class Validator:
    """Measures the network under training, however often."""

    def __init__(
        self,
        setup: Setup,
        pipeline: InputPipeline,
        journal: EventWriter,
        controls: Controls,
        parallel: Parallel,
        flop_count: FlopCount,
    ) -> None:
        self._parallel, self._flop_count = parallel, flop_count
        self._setup = setup
        self._pipeline = pipeline
        self._journal = journal
        self._controls = controls
        self._at_once = MicroBatch(setup.eval_batch_size, setup.device, journal.write)
        self._num_classes = len(setup.data.class_names) if setup.measures_balanced else 0

    def measure(
        self, split: Literal["val", "test"], progress: Progress, poll: Callable[[], None] | None = None
    ) -> Sums:
        """Return the sums over a split, and add what it costs to `progress`.

        `poll`, called now and then, may raise to end the evaluation.

        Raises:
            Aborted: the user asked for it.
            CifartuiError: memory runs out even with one image at once.
        """
        inputs = self._pipeline.eval_inputs(split, self.report_features)
        # BatchNorm's statistics of rank 0 are the run's; a moving average has its own
        self._parallel.from_rank0([*self._setup.network.buffers(), *inputs.network.buffers()])
        next_event = time.monotonic() + ReportInterval.SHORTEST_S

        def say(done: int) -> None:
            nonlocal next_event
            self._controls.poll()
            if poll is not None:
                poll()
            if time.monotonic() >= next_event:
                next_event = time.monotonic() + ReportInterval.SHORTEST_S
                self._journal.write(EvaluationProgressed(split=split, done=done, total=len(inputs.split)))

        self._controls.poll_at_once()
        sums = evaluate(
            inputs.network,
            inputs.split,
            inputs.transform,
            self._setup.criterion,
            batch_size=self._setup.eval_batch_size,
            at_once=self._at_once,
            autocast=self._setup.autocast,
            progress=say,
            flip_average=self._setup.info.preset.train.flip_average,
            parallel=self._parallel,
            num_classes=self._num_classes,
        )
        self._controls.poll_at_once()
        self._flop_count.evaluated(progress, split)  # last: what is saved on command until here is evaluated again
        return sums

    def validate_between_batches(self, progress: Progress) -> None:
        """Measure the validation set because somebody asked; a stop ends it, for that validates anyway."""

        def poll() -> None:
            if self._controls.stop_after == "batch" or self._controls.next_stage:
                raise Stopped

        started = time.monotonic()
        try:
            val = self.measure("val", progress, poll)
        except Stopped:
            return
        self._journal.write(validated(progress, val, time.monotonic() - started))

    def report_features(self, event: DataProgressed) -> None:
        """Tell of features, which every rank computes for itself, and listen."""
        self._journal.write(event)
        self._controls.poll_alone()
