"""Images that do not fit on the device: the next batch is gathered and copied there while this one is trained."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class HostImages:
    """Takes batches of images that stay with the host, perhaps in a mapped file, to the device.

    Reading a mapped file waits for the disk and gathering takes a core, so a thread does both ahead of the loop.
    On CUDA its copies go from pinned memory over a stream of their own, beside the kernels of the step under way.
    """

    def __init__(self, images: Tensor, device: torch.device) -> None:
        """Take from `images` (uint8 [N, ...], on the host) to `device`."""
        self._images = images
        self._device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._ahead: deque[tuple[Tensor, Future[tuple[Tensor, Any]]]] = deque()

    def expect(self, rows: Tensor) -> None:
        """Begin to gather the images at `rows` (int64 [B], on the host), to be taken behind those expected before."""
        self._ahead.append((rows, self._thread.submit(self._gather, rows)))

    def take(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` (int64 [B], on the host) on the device; nothing waits for their copy but kernels.

        Raises:
            OSError, RuntimeError: they cannot be read.
        """
        if self._ahead and torch.equal(self._ahead[0][0], rows):
            batch, copied = self._ahead.popleft()[1].result()
        else:  # the first of an epoch, or others than expected: after a stop, or once more with fewer at once
            self._ahead.clear()
            batch, copied = self._gather(rows)
        if copied is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(copied)
            batch.record_stream(now)  # its memory must not go to the next copy while this step reads it
        return batch

    def _gather(self, rows: Tensor) -> tuple[Tensor, Any]:
        """Return the images on the device, and the CUDA event behind their copy (None without CUDA)."""
        batch = self._images.index_select(0, rows)
        if self._stream is None:
            return batch.to(self._device), None
        with torch.cuda.stream(self._stream):
            batch = batch.pin_memory().to(self._device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        return batch, copied
