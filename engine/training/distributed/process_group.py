"""The processes that train one run together: which of them this is, and what they tell each other. Knows no run."""

import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from presets.errors import CifartuiError

Result = TypeVar("Result")

_TURNS = 3
_PATIENCE = timedelta(days=1)
"""Of torch itself: a rank may download for hours while the others wait. `heartbeat` finds what is dead or hangs."""


class RankInfo(NamedTuple):
    """Which of the processes one is.

    Attributes:
        rank: among all, from 0.
        local_rank: among those of its machine, from 0; the number of its GPU.
        num_ranks: how many there are in all.
        node: tells the machines apart.
        host: the machine's name, for people.
        pid: process id on that machine.
    """

    rank: int
    local_rank: int
    num_ranks: int
    node: str
    host: str
    pid: int

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which speaks for all."""
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


class ProcessGroup:
    """What the ranks do together. Every call waits until all of them make the same one."""

    def __init__(self, place: RankInfo, device: torch.device) -> None:
        """Meet the other ranks.

        Args:
            place: of this process.
            device: which it trains on.
        """
        self.place = place
        self._device = device
        # What is decided between the processes goes by gloo and never touches the device.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=place.rank, world_size=place.num_ranks, timeout=_PATIENCE)

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()

    def agree(self, values: Sequence[int]) -> list[int]:
        """Return the largest of what the ranks have, place by place: a fraction of a millisecond on one machine."""
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(value) for value in tensor.tolist()]

    def ask_first(self, *values: bool) -> list[bool]:
        """Return rank 0's values; those of the others do not count."""
        return [bool(value) for value in self.agree([value and self.place.is_first for value in values])]

    def from_first(self, content: bytes, num_bytes: int) -> bytes:
        """Return rank 0's `content`, of `num_bytes`, which all know."""
        tensor = torch.tensor(list(content) if self.place.is_first else [0] * num_bytes, dtype=torch.uint8)
        dist.broadcast(tensor, src=0)
        return bytes(tensor.tolist())

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return `tensor` with the sums over all ranks in it; on a GPU nothing is read back."""
        dist.all_reduce(tensor)
        return tensor

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Fill `tensors` (on the device) with what rank 0 has in them."""
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

    def take_weights_from_first(self, network: nn.Module) -> None:
        """Fill parameters and buffers with those of rank 0."""
        with torch.no_grad():
            self.take_from_first([*network.parameters(), *network.buffers()])

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns: first in rank 0, then in one rank of every other machine, then in the rest.

        What the first finds out or leaves on the disk, such as a data set that is unpacked, is there for the others.
        """
        place, result = self.place, None
        turn = 0 if place.is_first else min(1 + place.local_rank, _TURNS - 1)
        for number in range(_TURNS):
            if number == turn:
                result = work()
            self.agree([0])
        return result  # type: ignore[return-value]
