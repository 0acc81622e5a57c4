"""Pinned host copies of a checkpoint's content, so that training goes on while it is written. No files."""

import weakref
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

_Layout: TypeAlias = tuple[torch.dtype, torch.Size, tuple[int, ...]]


class StagedState:
    """Content of a checkpoint to be written: tensors on the host and plain values, which do not change any more.

    Its memory is reused after it is freed, so its tensors must not outlive it.

    Attributes:
        content: complete only after `wait`.
    """

    def __init__(self, content: dict[str, Any], arrived: Any) -> None:
        """Hold `content`, whose last copy is behind the CUDA event `arrived` (None if copies were made at once)."""
        self.content = content
        self._arrived = arrived

    def wait(self) -> None:
        """Wait until all copies have arrived, from any thread: the GIL is free meanwhile."""
        if self._arrived is not None:
            self._arrived.synchronize()


class StagingBuffers:
    """Copies states into host buffers, which it reuses: to allocate one takes longer than the copy."""

    def __init__(self, device: torch.device) -> None:
        """Copy states that are on `device`, or on the host."""
        self._device = device
        self._unused: defaultdict[_Layout, list[Tensor]] = defaultdict(list)

    def make_room(self, content: dict[str, Any]) -> None:
        """Allocate buffers for a copy of tensors like those of `content`, whose values are not read.

        The system gives memory only when it is first written to, and that takes longer than a copy.
        """
        tensors = list(_tensors(content))
        self._take_back([self._memory_for(tensor).fill_(0) for tensor in tensors])

    def take(self, content: dict[str, Any]) -> StagedState:
        """Copy tensors, and dicts, lists and plain values of them, as they are now.

        On CUDA the copies are queued on the current stream, into pinned memory: they see the weights as they are
        behind the last step queued, the steps queued later wait for them, and the host for nothing.
        """
        used: list[Tensor] = []
        copied = self._copy(content, used)
        arrived = None
        if self._device.type == "cuda":
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        staged = StagedState(copied, arrived)
        weakref.finalize(staged, self._take_back, used)
        return staged

    def _copy(self, value: Any, used: list[Tensor]) -> Any:
        if isinstance(value, Tensor):
            copied = self._memory_for(value).copy_(value.detach(), non_blocking=self._device.type == "cuda")
            used.append(copied)
            return copied
        if isinstance(value, dict):
            return {key: self._copy(each, used) for key, each in value.items()}
        if isinstance(value, list):
            return [self._copy(each, used) for each in value]
        return value

    def _memory_for(self, tensor: Tensor) -> Tensor:
        unused = self._unused[_layout(tensor)]
        if unused:
            return unused.pop()
        with torch.inference_mode(False):  # it is used again outside the evaluation in which it may be made
            return torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda", requires_grad=False)

    def _take_back(self, used: list[Tensor]) -> None:
        """Store a buffer for the next copy; called in the thread that frees one, for which lists are safe."""
        for tensor in used:
            self._unused[_layout(tensor)].append(tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in dicts and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)


def _layout(tensor: Tensor) -> _Layout:
    return tensor.dtype, tensor.shape, tensor.stride()
