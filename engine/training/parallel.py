"""Data parallelism as the training loop sees it, for one process: a group of one, in which nothing has to be sent.

`engine.training.distributed.process_group.ProcessGroup` is the same for several. No torch.distributed.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from engine.training.setup import Setup

Result = TypeVar("Result")


class Shard(NamedTuple):
    """The rows of a batch that one rank takes: its own, `start` to `stop`, and perhaps some that do not count.

    Attributes:
        start: the first of its own rows, from 0.
        stop: the row behind the last one.
        total: rows of the whole batch.
        num_extra: first rows of the batch taken along, without counting, if its own are too few for BatchNorm.
        num_ranks: ranks that share the batch.
    """

    start: int
    stop: int
    total: int
    num_extra: int = 0
    num_ranks: int = 1

    @property
    def num_own(self) -> int:
        """Rows that count."""
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """Factor of the mean loss, before gradients are averaged over the ranks.

        The mean over ranks r of (num_own_r * num_ranks / total) * mean_loss_r is the mean over the whole batch.
        """
        return self.num_own * self.num_ranks / self.total

    def of(self, batch: Tensor) -> Tensor:
        """Return the rows of this shard, [num_own + num_extra, ...], of a batch [total, ...]."""
        if self.num_own == self.total:
            return batch
        own = batch[self.start : self.stop]
        return torch.cat((own, batch[: self.num_extra])) if self.num_extra else own

    def own(self, rows: Tensor) -> Tensor:
        """Return those of the shard's rows, [num_own + num_extra, ...], that count: [num_own, ...]."""
        return rows[: self.num_own] if self.num_extra else rows

    def mean_loss(self, criterion: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the rows that count; if there are none, a zero that has gradients.

        Args:
            criterion: mean loss from logits [B, C] and labels [B].
            logits: of all rows of the shard.
            labels: of all rows of the shard.
        """
        if not self.num_own:
            return logits.float().sum() * 0.0
        return criterion(self.own(logits), self.own(labels))


class Parallel:
    """Collective operations of the ranks of a run; with one rank every operation is the identity.

    All ranks go through the same loop and call the same methods in the same order.

    Attributes:
        rank: number of this process among all, from 0.
        num_ranks: number of processes.
    """

    rank = 0
    num_ranks = 1

    @property
    def is_first(self) -> bool:
        """True for rank 0, which writes the journal and the checkpoints."""
        return self.rank == 0

    def prepare(self, setup: Setup) -> Setup:
        """Return the setup as each rank trains it.

        Raises:
            CifartuiError: the ranks cannot train as the preset wants.
        """
        return setup

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return `network` such that a backward pass averages gradients over the ranks.

        Belongs to the parameters that want gradients now: wrap the network anew for every stage.
        """
        return network

    def shard(self, num_rows: int) -> Shard:
        """Return this rank's share of a batch of so many rows."""
        return Shard(0, num_rows, num_rows)

    def draws(self, shard: Shard, seed: int) -> AbstractContextManager[object]:
        """Return a context in which the random numbers of a shard's images are those of one process.

        Behind it, every rank draws other numbers.

        Args:
            shard: of the batch that is augmented.
            seed: of the step; already set.
        """
        return nullcontext()

    def reduce(self, tensor: Tensor) -> Tensor:
        """Return `tensor` with the sums over all ranks in it; nothing is read back from the device."""
        return tensor

    def gather(self, tensor: Tensor) -> Sequence[Tensor]:
        """Return every rank's `tensor`, which has one shape and dtype in all of them; nothing is read back."""
        return [tensor]

    def agree(self, *values: float) -> Sequence[float]:
        """Return rank 0's values, for decisions by the clock or the file system."""
        return values

    def from_rank0(self, tensors: Iterable[Tensor]) -> None:
        """Fill `tensors`, on the device, with rank 0's."""

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Return the result of `work`: first in rank 0, then in one rank of every other machine, then in the rest."""
        return work()
