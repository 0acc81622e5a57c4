"""When memory runs out: fewer images through the network at once, and the same step. Knows no loop and no files.

A training batch then goes through the network in parts, whose gradients add up. The effective batch, the loss and
the number of steps stay as they were. Two things change with the parts: BatchNorm normalises each by its own mean
and variance, and moves its running statistics once a part; and dropout draws for each.
"""

from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from engine.journal.events import Alerted
from presets.errors import CifartuiError

Result = TypeVar("Result")
_IN_WORDS = {"training": "training", "evaluation": "evaluation", "features": "computing features"}


class MicroBatch:
    """How many images go through the network at once: half as many whenever memory runs out."""

    def __init__(
        self,
        num_images: int,
        device: torch.device,
        say: Callable[[Alerted], object],
        doing: Literal["training", "evaluation", "features"] = "evaluation",
        smallest: int = 1,
    ) -> None:
        """Begin with `num_images`; `say` is given an alert for every halving, down to `smallest` images."""
        self.num_images = num_images
        self._device = device
        self._say = say
        self._doing = doing
        self._smallest = smallest

    def run(self, attempt: Callable[[int], Result], num_wanted: int, undo: Callable[[], None] | None = None) -> Result:
        """Return what `attempt` does with so many images at once, tried again with fewer while memory runs out.

        Args:
            attempt: given the number; it must be able to begin anew.
            num_wanted: images that it is to do: what a smaller number is half of.
            undo: called before each new attempt, for what the one before left.

        Raises:
            CifartuiError: memory runs out even so.
        """
        while True:
            try:
                return attempt(self.num_images)
            except torch.OutOfMemoryError:
                pass
            # out here the error is gone, and with it the tensors that its traceback held
            if undo is not None:
                undo()
            self._halve(min(num_wanted, self.num_images))

    def _halve(self, num_images: int) -> None:
        device = "The GPU" if self._device.type == "cuda" else f"The device {self._device}"
        where = f"{device} ran out of memory in {_IN_WORDS[self._doing]}"
        if num_images <= self._smallest:
            images = "one image" if num_images == 1 else f"{num_images} images"
            raise CifartuiError(
                f"{where} with {images} at once. Free memory on it (nvidia-smi shows who holds it), "
                "or train again with a smaller data.image_size or network."
            )
        self.num_images = max(self._smallest, num_images // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._say(
            Alerted(
                severity="warning",
                kind="out-of-memory",
                text=f"{where}: from here on {self.num_images} images go through the network at once"
                + ("; the gradients of a batch add up to the same step." if self._doing == "training" else "."),
                advice="This takes longer. Free memory on the device, or train with a smaller train.batch_size.",
            )
        )


def smallest_part(network: nn.Module) -> int:
    """Return how few images can be trained on at once: three with BatchNorm, as the smallest of their parts has two."""
    return 3 if any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()) else 1


def parts(images: Tensor, labels: Tensor, at_once: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield images, labels and share of a batch in parts of at most `at_once` images that differ by one at most."""
    num_parts = -(-len(labels) // at_once)
    if num_parts == 1:
        yield images, labels, 1.0
        return
    for some, theirs in zip(images.tensor_split(num_parts), labels.tensor_split(num_parts), strict=True):
        yield some, theirs, len(theirs) / len(labels)
