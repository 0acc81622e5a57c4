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

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Of the published quintic, which takes singular values in (0, 1] near 1, roughly 0.7 to 1.2, in five steps."""
_NUM_STEPS = 5


class Muon(Optimizer):
    """Steps of groups with `orthogonal` true along orthogonal matrices; of the others, as SGD with momentum does.

    Weight decay shrinks orthogonal groups by lr x weight_decay a step, and is added to the gradients of the others.
    Momentum is Nesterov's in both.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        """Take groups with params, lr, momentum, weight_decay and orthogonal."""
        super().__init__(groups, {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.0, "orthogonal": False})
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
            steps = [orthogonalize(step, self._dtype) for step in steps]
        torch._foreach_add_(params, steps, alpha=-lr)

    def _buffer(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        return state["momentum_buffer"]  # type: ignore[no-any-return]


def orthogonalize(step: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the nearest matrix with orthogonal rows or columns, nearly, by Newton-Schulz iterations.

    Args:
        step: [O, ...]; what is behind the first dimension is taken as one.
        dtype: of the iterations.

    Returns:
        The same shape and dtype; all singular values near 1, times the square root of rows over columns where there
        are more rows, so that what comes out of a layer moves alike whatever its shape.
    """
    matrix = step.flatten(1)
    is_tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.to(dtype)
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(_NUM_STEPS):
        square = x @ x.T
        x = _A * x + (_B * square + _C * square @ square) @ x
    x = x.T if is_tall else x
    scale: float = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
    return (x * scale).view_as(step).to(step.dtype)
