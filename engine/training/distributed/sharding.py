"""How a batch is divided over the ranks, so that together they compute what one process would. Knows no processes.

The global batch of a step is the same whatever the number of ranks: rank r takes the r-th part of its rows, in one
piece. The parts differ by one row at most; a rank whose part of a last small batch is too small for BatchNorm trains
along on rows of others, which do not count.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FEWEST = 2
"""Images that a forward pass needs: BatchNorm has no statistics of one value."""


class Shard(NamedTuple):
    """The rows `start` to `stop` of a batch of `total`, and so many of its first rows besides, which do not count."""

    start: int
    stop: int
    total: int
    num_extra: int

    @property
    def num_own(self) -> int:
        """How many rows count."""
        return self.stop - self.start

    def of(self, batch: Tensor) -> Tensor:
        """Return the rows of this share, [num_own + num_extra, ...], out of [total, ...]."""
        own = batch[self.start : self.stop]
        return torch.cat((own, batch[: self.num_extra])) if self.num_extra else own

    def mean_loss(self, criterion: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the rows that count; a zero that has gradients where there are none.

        Args:
            criterion: mean loss from logits [B, C] and labels [B].
            logits: of all rows of the share.
            labels: of all rows of the share.
        """
        if not self.num_own:
            return logits.float().sum() * 0.0
        return criterion(logits[: self.num_own], labels[: self.num_own])

    def weight(self, num_ranks: int) -> float:
        """Return what the mean loss is multiplied by before the gradients are averaged over the ranks.

        The mean over ranks r of (num_own_r * num_ranks / total) * mean_loss_r is the mean over the whole batch.
        """
        return self.num_own * num_ranks / self.total


def shard_of(total: int, rank: int, num_ranks: int) -> Shard:
    """Return the part of a batch of `total` rows that a rank takes."""
    start, stop = rank * total // num_ranks, (rank + 1) * total // num_ranks
    return Shard(start, stop, total, max(0, min(_FEWEST, total) - (stop - start)))


class GlobalBatchDraws(TorchFunctionMode):
    """Within it, what is drawn for every row of a share is drawn for the whole batch, of which the share is taken.

    Augmentation draws a few numbers an image, with torch.rand and torch.randint, images first. Seeded alike, every
    image then gets the numbers that it would get in one process, while only the share's images are transformed.
    """

    def __init__(self, share: Shard) -> None:
        super().__init__()
        self._share = share
        self._num_rows = share.num_own + share.num_extra

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, with more rows where it is a draw."""
        kwargs, draw = kwargs or {}, func
        if func is torch.rand:
            size = args[0] if isinstance(args[0], tuple | list) else args
            if size[0] == self._num_rows:
                return self._share.of(draw((self._share.total, *size[1:]), **kwargs))
        elif func is torch.randint and args[-1][0] == self._num_rows:
            *limits, size = args
            return self._share.of(draw(*limits, (self._share.total, *size[1:]), **kwargs))
        return func(*args, **kwargs)
