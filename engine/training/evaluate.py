"""Loss and accuracy of a network on a split: eval mode, plain transform, nothing read back until the end."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from engine.data.sets import ImageSplit
from engine.training.metrics import Meter, Sums
from engine.training.microbatch import AtOnce


def evaluate(
    network: nn.Module,
    split: ImageSplit,
    transform: Callable[[Tensor], Tensor],
    criterion: nn.Module,
    *,
    at_once: AtOnce,
    autocast: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int], None],
    look: Callable[[Tensor], None] | None = None,
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
        look: given the logits of every batch, float32 [B, C].
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
                if look is not None:
                    look(logits.float())
                done += len(labels)
                progress(done)
    finally:
        network.train(was_training)
    return meter.read()
