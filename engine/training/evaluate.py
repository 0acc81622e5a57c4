"""Loss and accuracy of a network on a split: eval mode, plain transform, nothing read back until the end."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from engine.data.sets import ImageSplit
from engine.training.metrics import Meter, Sums


def evaluate(
    network: nn.Module,
    split: ImageSplit,
    transform: Callable[[Tensor], Tensor],
    criterion: nn.Module,
    *,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int], None],
    look: Callable[[Tensor], None] | None = None,
) -> Sums:
    """Return summed loss and hits of `network` over `split`.

    Args:
        network: put into eval mode here, and back into the mode it was in.
        split: images uint8 [N, 3, H, W] (or features float [N, F]) on any device, labels int64 [N] on the network's.
        transform: from a batch of the split's images to the network's float input.
        criterion: mean loss from logits [B, C] and labels [B].
        batch_size: images at once; without gradients several times the training batch fits.
        autocast: context of the forward pass.
        progress: told after every batch how many images are done; may raise to end the evaluation.
        look: given the logits of every batch, float32 [B, C].
    """
    was_training = network.training
    network.eval()
    meter = Meter(split.labels.device)
    try:
        with torch.inference_mode():
            for start in range(0, len(split.labels), batch_size):
                images = split.images[start : start + batch_size].to(split.labels.device, non_blocking=True)
                labels = split.labels[start : start + batch_size]
                with autocast():
                    logits = network(transform(images))
                meter.add(criterion(logits.float(), labels), logits, labels)
                if look is not None:
                    look(logits.float())
                progress(start + len(labels))
    finally:
        network.train(was_training)
    return meter.read()
