"""Muon: momentum whose matrices are made orthogonal, for filters of convolutions; SGD for all other weights.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. torch.optim.Muon, since torch
2.9, takes matrices only, and nothing beside them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from engine.training.device import has_bf16
from engine.training.parallel import Parallel

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Of the published quintic, which takes singular values in (0, 1] near 1, roughly 0.7 to 1.2, in five steps."""
_NUM_STEPS = 5
_LEAST_NORM = 1e-7


class Muon(Optimizer):
    """Steps of groups with `orthogonal` true along orthogonal matrices; of the others, as SGD with momentum does.

    Weight decay shrinks orthogonal groups by lr x weight_decay a step, and is added to the gradients of the others.
    Momentum is Nesterov's in both. With several ranks each makes its share of the matrices orthogonal, for all.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], parallel: Parallel | None = None) -> None:
        """Take groups with params, lr, momentum, weight_decay and orthogonal, and the ranks that train together."""
        super().__init__(groups, {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.0, "orthogonal": False})
        self._parallel = parallel or Parallel()
        device = self.param_groups[0]["params"][0].device
        self._dtype = torch.bfloat16 if has_bf16(device) else torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the weights against their gradients; `closure` is not supported and must be None."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure")
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        params: list[Tensor] = [param for param in group["params"] if param.grad is not None]
        if not params:
            return
        lr, momentum, decay, is_orthogonal = (group[key] for key in ("lr", "momentum", "weight_decay", "orthogonal"))
        gradients = [param.grad for param in params if param.grad is not None]
        if decay and not is_orthogonal:
            gradients = list(torch._foreach_add(gradients, params, alpha=decay))
        buffers = [self._buffer(param) for param in params]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        steps = list(torch._foreach_add(gradients, buffers, alpha=momentum))
        if is_orthogonal:
            torch._foreach_mul_(params, 1 - lr * decay)
            steps = orthogonalize(steps, self._dtype, self._parallel)
        if isinstance(lr, Tensor):  # of a recorded step, in which a number would stay as it was
            torch._foreach_mul_(steps, -lr)
            torch._foreach_add_(params, steps)
        else:
            torch._foreach_add_(params, steps, alpha=-lr)

    def _buffer(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        return state["momentum_buffer"]  # type: ignore[no-any-return]


def orthogonalize(
    steps: Sequence[Tensor], dtype: torch.dtype = torch.float32, parallel: Parallel | None = None
) -> list[Tensor]:
    """Return the nearest matrices with orthogonal rows or columns, nearly, by Newton-Schulz iterations.

    Those of one shape are one batch. The order of columns does not matter, so filters stay in their memory format.

    Args:
        steps: [O, ...] each; what is behind the first dimension is taken as one. The same in every rank.
        dtype: of the iterations.
        parallel: the ranks, each of which iterates its share of the matrices and is sent the others.

    Returns:
        The same shapes, dtypes and strides, and to the bit the same in every rank; all singular values near 1, times
        the square root of rows over columns where there are more rows, so that what comes out of a layer moves alike
        whatever its shape.
    """
    parallel = parallel or Parallel()
    matrices = [_as_matrix(step) for step in steps]
    owners = shares([matrix.shape for matrix in matrices], parallel.num_ranks)
    mine = [place for place, owner in enumerate(owners) if owner == parallel.rank]
    found = _orthogonal({place: matrices[place] for place in mine}, dtype)
    if parallel.num_ranks > 1:
        found = _of_all_ranks(found, matrices, owners, dtype, parallel)
    return [_as_filter(found[place], step) for place, step in enumerate(steps)]


def flops_of_step(optimizer: Optimizer) -> int:
    """Return the floating point operations of the iterations of a step, 2 for each multiply-add; 0 without Muon.

    Of all ranks together. What is done element by element is small, and not counted.
    """
    if not isinstance(optimizer, Muon):
        return 0
    orthogonal = (param for group in optimizer.param_groups if group["orthogonal"] for param in group["params"])
    return sum(_flops(len(param), param[0].numel()) for param in orthogonal)


def _flops(rows: int, columns: int) -> int:
    """Return those of `_newton_schulz` for a matrix: three products an iteration, of which one is a square's."""
    short, long = sorted((rows, columns))
    return _NUM_STEPS * 2 * (2 * short**2 * long + short**3)


def shares(shapes: Sequence[torch.Size], num_ranks: int) -> list[int]:
    """Return the rank of every matrix, [M, N] each: the largest first, each to the rank with the least to do."""
    owners, loads = [0] * len(shapes), [0] * num_ranks
    costs = [max(rows, columns) * min(rows, columns) ** 2 for rows, columns in shapes]
    for place in sorted(range(len(shapes)), key=lambda place: -costs[place]):
        owners[place] = loads.index(min(loads))
        loads[owners[place]] += costs[place]
    return owners


def _orthogonal(matrices: dict[int, Tensor], dtype: torch.dtype) -> dict[int, Tensor]:
    """Return matrices made orthogonal, contiguous and in their own dtype; those of one shape are one batch."""
    found: dict[int, Tensor] = {}
    places: dict[torch.Size, list[int]] = {}
    for place, matrix in matrices.items():
        places.setdefault(matrix.shape, []).append(place)
    norms = dict(zip(matrices, torch._foreach_norm(list(matrices.values())) if matrices else [], strict=True))
    if norms:
        torch._foreach_add_(list(norms.values()), _LEAST_NORM)
    for shape, alike in places.items():
        first = matrices[alike[0]]
        x = torch.empty((len(alike), *shape), dtype=dtype, device=first.device)
        for to, place in zip(x, alike, strict=True):
            torch.div(matrices[place], norms[place], out=to)  # and converted, in one pass
        orthogonal = _newton_schulz(x[0])[None] if len(alike) == 1 else _newton_schulz(x)
        # rows one behind the other, also of a transposed result: then they are filters in their memory format
        made = orthogonal.to(first.dtype, memory_format=torch.contiguous_format).contiguous()
        found.update(zip(alike, made, strict=True))
    return found


def _of_all_ranks(
    own: dict[int, Tensor], matrices: Sequence[Tensor], owners: Sequence[int], dtype: torch.dtype, parallel: Parallel
) -> dict[int, Tensor]:
    """Return the matrices that the ranks have made, each its own: sent in `dtype`, in which they were computed."""
    placed = [[place for place, owner in enumerate(owners) if owner == rank] for rank in range(parallel.num_ranks)]
    sizes = [sum(matrices[place].numel() for place in places) for places in placed]
    sent = matrices[0].new_zeros(max(sizes), dtype=dtype)
    if own:
        torch.cat([own[place].flatten() for place in placed[parallel.rank]], out=sent[: sizes[parallel.rank]])
    found: dict[int, Tensor] = {}
    for places, size, parts in zip(placed, sizes, parallel.gather(sent), strict=True):
        whole = parts[:size].to(matrices[0].dtype)
        pieces = torch.split(whole, [matrices[place].numel() for place in places])
        found.update({place: piece.view(matrices[place].shape) for place, piece in zip(places, pieces, strict=True)})
    return found


def _newton_schulz(x: Tensor) -> Tensor:
    """Return matrices of norm 1, [M, N] or [B, M, N], made orthogonal: three products an iteration, two that add."""
    rows, columns = x.shape[-2:]
    add_product = torch.addmm if x.ndim == 2 else torch.baddbmm
    x = x.mT if rows > columns else x
    for left in reversed(range(_NUM_STEPS)):
        square = x @ x.mT
        scale = max(1.0, rows / columns) ** 0.5 if left == 0 else 1.0
        x = add_product(x, add_product(square, square, square, beta=_B, alpha=_C), x, beta=_A * scale, alpha=scale)
    return x.mT if rows > columns else x


def _as_matrix(step: Tensor) -> Tensor:
    """Return [O, ...] as [O, N], a view of filters in either memory format."""
    return (step.permute(0, 2, 3, 1) if _is_channels_last(step) else step).flatten(1)


def _as_filter(matrix: Tensor, step: Tensor) -> Tensor:
    """Return a matrix as `_as_matrix` made it of `step` in the shape of that, and with its strides."""
    if _is_channels_last(step) or step.is_contiguous():
        return matrix.as_strided(step.shape, step.stride())
    return matrix.reshape(step.shape)


def _is_channels_last(step: Tensor) -> bool:
    return step.ndim == 4 and step.is_contiguous(memory_format=torch.channels_last)
