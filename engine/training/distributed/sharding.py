"""A batch divided over ranks, so that together they compute what one process would. No processes.

The global batch of a step is the same whatever the number of ranks: rank r takes the r-th part of its rows, in one
piece. The parts differ by one row at most; a rank whose part of a last small batch is too small for BatchNorm trains
along on rows of others, which do not count.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from engine.training.parallel import Shard

_FEWEST = 2
"""Images that a forward pass needs: BatchNorm has no statistics of one value."""


def shard_of(total: int, rank: int, num_ranks: int) -> Shard:
    """Return the part of a batch of `total` rows that a rank takes."""
    start, stop = rank * total // num_ranks, (rank + 1) * total // num_ranks
    return Shard(start, stop, total, max(0, min(_FEWEST, total) - (stop - start)), num_ranks)


class GlobalBatchDraws(TorchFunctionMode):
    """Random numbers for every row of a shard are drawn for the whole batch, and the shard's are taken of them.

    Augmentation draws a few numbers an image, with torch.rand and torch.randint, images first. Seeded alike, every
    image then gets the numbers that it would get in one process, while only the shard's images are transformed.
    """

    def __init__(self, shard: Shard) -> None:
        super().__init__()
        self._shard = shard
        self._num_rows = shard.num_own + shard.num_extra

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, with more rows if it is a draw."""
        kwargs, draw = kwargs or {}, func
        if func is torch.rand:
            size = args[0] if isinstance(args[0], tuple | list) else args
            if size[0] == self._num_rows:
                return self._shard.of(draw((self._shard.total, *size[1:]), **kwargs))
        elif func is torch.randint and args[-1][0] == self._num_rows:
            *limits, size = args
            return self._shard.of(draw(*limits, (self._shard.total, *size[1:]), **kwargs))
        return func(*args, **kwargs)
