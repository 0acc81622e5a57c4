"""A checkpoint's content copied to host memory, so that training goes on while it is written. Tensors; no files."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Snapshot(NamedTuple):
    """What a checkpoint will hold: tensors on the host and plain values, which nothing changes any more.

    Attributes:
        content: complete only after `wait`.
        arrived: the CUDA event behind the last copy; None where the copies were made at once.
    """

    content: dict[str, Any]
    arrived: Any

    def wait(self) -> None:
        """Wait until everything has arrived, from whatever thread: the GIL is free meanwhile."""
        if self.arrived is not None:
            self.arrived.synchronize()


def take(content: dict[str, Any], device: torch.device) -> Snapshot:
    """Copy tensors, and dicts, lists and plain values of them, as they are now.

    On CUDA the copies are queued on the current stream, into pinned memory: they see the weights as they are
    behind the last step queued, the steps queued later wait for them, and the host for nothing.

    Args:
        content: of a checkpoint.
        device: on which training runs.
    """
    copied = _copy(content)
    arrived = None
    if device.type == "cuda":
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
    return Snapshot(copied, arrived)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.device.type != "cuda":
            return value.detach().to("cpu", copy=True)
        return torch.empty_like(value, device="cpu", pin_memory=True).copy_(value.detach(), non_blocking=True)
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each) for each in value]
    return value
