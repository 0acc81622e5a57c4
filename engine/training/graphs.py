"""A whole training step as one CUDA graph: the work of Python between small operations is then done once.

CUDA replays the kernels of a recorded step with the addresses they had. So what differs from step to step is written
into tensors that stay: the rows of the batch and the learning rate. Random numbers differ too, because a replay takes
the generator's seed as it is then. A batch smaller than the others, the last of an epoch, is taken as it comes.
After torch's notes on CUDA graphs (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from engine.training.optimizers import Descent

Taken: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""What a step leaves to be added up, on the device: mean loss, logits [B, C], labels int64 [B]."""

_NUM_WARM_UPS = 3
"""Steps before the recording: they make the optimizer's state, and let cuDNN choose its algorithms."""


class Recorder(Protocol):
    """How work is recorded and replayed: by CUDA, or by a stand-in in tests."""

    def warm_up(self, work: Callable[[], Taken]) -> Taken:
        """Do the work, where it will be recorded."""

    def record(self, work: Callable[[], Taken]) -> Taken:
        """Record the work without doing it, and return where a replay leaves its results."""

    def replay(self) -> None:
        """Do the recorded work."""


class CudaRecorder:
    """Records with torch.cuda.CUDAGraph, on a stream of its own as torch asks for."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: Any = torch.cuda.CUDAGraph()

    def warm_up(self, work: Callable[[], Taken]) -> Taken:
        """See `Recorder`."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            taken = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return taken

    def record(self, work: Callable[[], Taken]) -> Taken:
        """See `Recorder`."""
        # thread_local: the telemetry and saving threads may speak to CUDA meanwhile
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        """See `Recorder`."""
        self._graph.replay()


class RecordedStep:
    """The steps of one stage: the first few as they come, then a recording of one."""

    def __init__(self, batch_size: int, device: torch.device, recorder: Recorder | None = None) -> None:
        self._rows = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._lr = torch.zeros((), device=device)
        self._recorder = recorder or CudaRecorder(device)
        self._warm_ups_left = _NUM_WARM_UPS
        self._taken: Taken | None = None

    def take(
        self, rows: Tensor, descent: Descent, plain: Callable[[], Taken], compute: Callable[[Tensor], Taken]
    ) -> Taken:
        """Move the weights.

        Args:
            rows: of the batch, int64 [B] on the device.
            descent: what the stage moves its weights with.
            plain: takes the step at `rows` operation by operation.
            compute: the same, for rows that it is given, without a look at what the device has computed.
        """
        if len(rows) != len(self._rows):
            return plain()
        if self._warm_ups_left:
            self._warm_ups_left -= 1
            return self._recorder.warm_up(plain)
        self._rows.copy_(rows)
        if self._taken is None:
            with descent.rate_in(self._lr):
                self._taken = self._recorder.record(lambda: compute(self._rows))
        self._lr.fill_(descent.lr)
        self._recorder.replay()
        return self._taken
