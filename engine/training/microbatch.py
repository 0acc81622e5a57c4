"""Memory that runs out, and micro-batches: then half as many images go through the network at once. No loop, no files.

A training batch then goes through the network in parts, whose gradients add up. The effective batch, the loss and
the number of steps stay as they were. Two things change with the parts: BatchNorm normalises each by its own mean
and variance, and moves its running statistics once a part; and dropout draws for each.
"""

import gc
import re
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from engine.journal.events import Alerted
from presets.errors import CifartuiError

Result = TypeVar("Result")
_NO_MEMORY = re.compile(
    r"out of memory"  # CUDA's, HIP's and MPS's allocators, the driver, NCCL, and compilers that quote one of them
    r"|_ALLOC_FAILED|ALLOCATION_FAILED"  # cuBLAS, cuSOLVER, cuDNN
    r"|CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate"  # its handle needs memory too
    r"|Invalid buffer size: "  # MPS, of one tensor that is too large
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory"
)
_IN_WORDS = {"training": "training", "evaluation": "evaluation", "features": "computing features"}


def is_out_of_memory(error: BaseException) -> bool:
    """Return true if a device's memory ran out, in torch's allocator or in a library that allocates by itself."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, torch.OutOfMemoryError) or (
            isinstance(cause, RuntimeError) and _NO_MEMORY.search(str(cause)) is not None
        ):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def free_memory() -> None:
    """Hand back what is held without being used: by tracebacks that refer to themselves, and by torch."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class MicroBatch:
    """Micro-batch size: halved on out-of-memory; gradients accumulate to the same step."""

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
        """Return the result of `attempt`, repeated with half as many images at once while memory runs out.

        Args:
            attempt: called with the number; it must be able to start again.
            num_wanted: images to process, if these are fewer: half of them is the next number.
            undo: called before each new attempt, to drop the gradients of the one before.

        Raises:
            CifartuiError: memory runs out even so.
        """
        while True:
            try:
                return attempt(self.num_images)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # out here the error is gone, and with it the tensors that its traceback held
            if undo is not None:
                undo()
            self._halve(min(num_wanted, self.num_images))

    def _halve(self, num_images: int) -> None:
        where = f"{capital_device(self._device)} ran out of memory in {_IN_WORDS[self._doing]}"
        if num_images <= self._smallest:
            images = "one image" if num_images == 1 else f"{num_images} images"
            raise CifartuiError(
                f"{where} with {images} at once. Free memory on it (nvidia-smi shows who holds it), "
                "or train again with a smaller data.image_size or network."
            )
        self.num_images = max(self._smallest, num_images // 2)
        free_memory()
        self._say(
            Alerted(
                severity="warning",
                kind="out-of-memory",
                text=f"{where}: from here on {self.num_images} images go through the network at once"
                + ("; the gradients of a batch add up to the same step." if self._doing == "training" else "."),
                advice="This takes longer. Free memory on the device, or train with a smaller train.batch_size.",
            )
        )


def capital_device(device: torch.device) -> str:
    """Return the device's name, to begin a sentence."""
    return "The GPU" if device.type == "cuda" else f"The device {device}"


def smallest_part(network: nn.Module) -> int:
    """Return the smallest number of images at once in training: three with BatchNorm, whose smallest part has two."""
    return 3 if any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()) else 1


def parts(images: Tensor, labels: Tensor, at_once: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield images, labels and share of a batch in parts of at most `at_once` images that differ by one at most."""
    num_parts = -(-len(labels) // at_once)
    if num_parts == 1:
        yield images, labels, 1.0
        return
    for some, theirs in zip(images.tensor_split(num_parts), labels.tensor_split(num_parts), strict=True):
        yield some, theirs, len(theirs) / len(labels)
