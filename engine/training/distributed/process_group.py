"""The processes that train one run together: place of this one, and collective operations of all. No files."""

import inspect
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.training.distributed.sharding import GlobalBatchDraws, shard_of
from engine.training.parallel import Parallel, Result, Shard
from engine.training.seeds import reseed, seed_at
from engine.training.setup import Setup
from presets.errors import CifartuiError

_TURNS = 3
_DDP_ARGUMENTS = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _DDP_ARGUMENTS else "broadcast_buffers"
"""Argument about buffers in forward passes: torch 2.13 deprecates the second, which was the only one before."""
_PATIENCE = timedelta(days=1)
"""Of torch itself: a rank may download for hours while the others wait. `heartbeat` finds what is dead or hangs."""


class RankInfo(NamedTuple):
    """Rank of this process among the processes of the run.

    Attributes:
        rank: among all, from 0.
        local_rank: among those of its machine, from 0; the number of its GPU, unless it is shown one GPU alone.
        num_ranks: how many there are in all.
        node: tells the machines apart.
        host: the machine's name, for people.
        pid: process id on that machine.
        device: that it trains on, by the machine's name: cpu, or cuda:N as nvidia-smi counts; empty until it is chosen.
        gpu: UUID of its GPU; empty if it has none, or torch does not say.
    """

    rank: int
    local_rank: int
    num_ranks: int
    node: str
    host: str
    pid: int
    device: str = ""
    gpu: str = ""

    @property
    def is_first(self) -> bool:
        """True for rank 0, which writes for all."""
        return self.rank == 0

    def __str__(self) -> str:
        """Return who it is, for a sentence."""
        return f"rank {self.rank} on {self.host} (pid {self.pid})"


def place_from_environment() -> RankInfo:
    """Return where torchrun put this process.

    Raises:
        CifartuiError: it was not started by torchrun, or by what sets the same variables.
    """
    try:
        rank, num_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ["LOCAL_RANK"])
        _ = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise CifartuiError(
            "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are not all set: start this with torchrun "
            "(docs/several-devices.md), or leave it to cifartui train --devices N."
        ) from error
    host = socket.gethostname()
    return RankInfo(rank, local_rank, num_ranks, os.environ.get("GROUP_RANK", host), host, os.getpid())


class ProcessGroup(Parallel):
    """The ranks of a run. Every call waits until all of them make the same one.

    Decisions between the processes go by gloo on the CPU and never touch the device.
    """

    def __init__(self, place: RankInfo, device: torch.device) -> None:
        """Meet the other ranks.

        Args:
            place: of this process.
            device: to train on.
        """
        self.place = place
        self.rank, self.num_ranks = place.rank, place.num_ranks
        self._device = device
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=place.rank, world_size=place.num_ranks, timeout=_PATIENCE)

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()

    # --- what the loop asks for: see `Parallel` -----------------------------------------------------

    def prepare(self, setup: Setup) -> Setup:
        """Return the setup with the number of ranks, and with BatchNorm over the whole batch if the preset wants it.

        Raises:
            CifartuiError: it does, and the ranks train on CPUs, for which torch has no such thing.
        """
        network = setup.network
        if setup.info.preset.train.sync_batch_norm:
            if self._device.type != "cuda":
                raise CifartuiError(
                    "train.sync_batch_norm needs CUDA GPUs; set it to false to train on several processors."
                )
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return replace(setup, network=network, num_ranks=self.num_ranks)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return `network` in DistributedDataParallel, for the parameters that want gradients now."""
        if self.num_ranks == 1:
            return network
        without_buffers: dict[str, Any] = {_SYNC_BUFFERS: False}  # rank 0's count, and are handed out for validation
        device_ids = [self._device] if self._device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=device_ids, **without_buffers)

    def shard(self, num_rows: int) -> Shard:
        """Return this rank's share of a batch of so many rows."""
        return shard_of(num_rows, self.rank, self.num_ranks)

    @contextmanager
    def draws(self, shard: Shard, seed: int) -> Iterator[None]:
        """Draw for the whole batch within the context; behind it, for mixing and dropout, each rank for itself."""
        with GlobalBatchDraws(shard):
            yield
        if not self.is_first:
            reseed(self._device, seed_at(seed, "rank", self.rank))

    def reduce(self, tensor: Tensor) -> Tensor:
        """Return `tensor` with the sums over all ranks in it; on a GPU nothing is read back."""
        dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Sequence[Tensor]:
        """Return every rank's `tensor`; on a GPU nothing is read back."""
        sent = tensor.contiguous().view(torch.uint8)  # bytes, for gloo does not know every dtype
        received = [torch.empty_like(sent) for _ in range(self.num_ranks)]
        dist.all_gather(received, sent)
        return [each.view(tensor.dtype) for each in received]

    def agree(self, *values: float) -> Sequence[float]:
        """Return rank 0's values: a fraction of a millisecond on one machine."""
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, src=0)
        return list(map(float, tensor.tolist()))

    def from_rank0(self, tensors: Iterable[Tensor]) -> None:
        """Fill `tensors`, on the device, with rank 0's."""
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Return the result of `work`: first in rank 0, then in one rank of every other machine, then in the rest.

        What the first finds out or leaves on the disk, such as a data set that is unpacked, is there for the others.
        """
        result = None
        turn = 0 if self.is_first else min(1 + self.place.local_rank, _TURNS - 1)
        for number in range(_TURNS):
            if number == turn:
                result = work()
            self.barrier()
        return result  # type: ignore[return-value]

    # --- for commands and signals -------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        self.largest([0])

    def largest(self, values: Sequence[int]) -> list[int]:
        """Return the largest of the ranks' values, place by place: a fraction of a millisecond on one machine."""
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(value) for value in tensor.tolist()]

    def bytes_from_rank0(self, content: bytes, num_bytes: int) -> bytes:
        """Return rank 0's `content`, of `num_bytes`, a number that all ranks know."""
        tensor = torch.tensor(list(content) if self.is_first else [0] * num_bytes, dtype=torch.uint8)
        dist.broadcast(tensor, src=0)
        return bytes(tensor.tolist())
