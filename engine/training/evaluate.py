"""Loss and accuracy of a network on a split: eval mode, plain transform, nothing read back until the end."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from engine.data.sets import ImageSplit
from engine.training.metrics import Meter, Sums
from engine.training.out_of_memory import AtOnce
from engine.training.parallel import Parallel


def evaluate(
    network: nn.Module,
    split: ImageSplit,
    transform: Callable[[Tensor], Tensor],
    criterion: nn.Module,
    *,
    batch_size: int,
    at_once: AtOnce,
    autocast: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int], None],
    look: Callable[[Tensor], None] | None = None,
    flip_average: bool = False,
    parallel: Parallel | None = None,
) -> Sums:
    """Return summed loss and hits of `network` over `split`, of which every rank takes a part.

    Args:
        network: put into eval mode here, and back into the mode it was in.
        split: images uint8 [N, 3, H, W] (or features float [N, F]) on any device, labels int64 [N] on the network's.
        transform: from a batch of the split's images to the network's float input.
        criterion: mean loss from logits [B, C] and labels [B].
        batch_size: images between two calls of `progress`, of each rank.
        at_once: images through the network at once; fewer if memory runs out.
        autocast: context of the forward pass.
        progress: given how many images are done, equally often in every rank; may raise to end the evaluation.
        look: given the logits of every batch, float32 [B, C].
        flip_average: run every image mirrored too, and go by the mean of the two logits.
        parallel: the ranks; one process if left out.
    """
    device, num_images, parallel = split.labels.device, len(split), parallel or Parallel()

    def forward(start: int, stop: int, num_rows: int) -> Tensor:
        images = split.images[start : min(start + num_rows, stop)]
        inputs = transform(images.to(device, non_blocking=True))
        with autocast():
            logits: Tensor = network(inputs)
            if flip_average:
                logits = (logits + network(inputs.flip(3))) / 2
        return logits

    was_training = network.training
    network.eval()
    meter, shard = Meter(device), parallel.shard(num_images)
    most_rows = -(-num_images // parallel.num_ranks)
    try:
        with torch.inference_mode():
            for first in range(0, most_rows, batch_size):
                done, stop = shard.start + first, min(shard.start + first + batch_size, shard.stop)
                while done < stop:
                    logits = at_once.run(partial(forward, done, stop), stop - done)
                    labels = split.labels[done : done + len(logits)]
                    meter.add(criterion(logits.float(), labels), logits, labels)
                    if look is not None:
                        look(logits.float())
                    done += len(labels)
                progress(min((first + batch_size) * parallel.num_ranks, num_images))
    finally:
        network.train(was_training)
    loss, hits, num_seen = parallel.reduce(torch.tensor(meter.read(), dtype=torch.float64)).tolist()
    return Sums(loss, int(hits), int(num_seen))
