"""Exponential moving average of a network's weights, evaluated in its place. No files."""

import copy

import torch
from torch import Tensor, nn

_WARMUP = 10
"""The average reaches over a tenth of the steps so far until that is more than the decay allows."""


class Ema:
    """The exponential moving average of a network's weights and of its BatchNorm statistics.

    Early on the average forgets faster, by (1 + t) / (10 + t) after t steps, so that the random weights of
    the start are soon gone. `torch.optim.swa_utils.AveragedModel` does the same but for that, and waits for the
    device at every step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Follow `network`; a step keeps `decay` of the average, and takes the rest from the weights."""
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._of = network
        self._averaged, self._copied = self._pairs()

    def _pairs(self) -> tuple[tuple[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]:
        """Return ours and theirs: first what is averaged, floats, then what is copied, counts."""
        ours, theirs = self.network.state_dict(keep_vars=True), self._of.state_dict(keep_vars=True)
        pairs = [(mine.detach(), theirs[name].detach()) for name, mine in ours.items()]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        others = [pair for pair in pairs if not pair[0].is_floating_point()]
        return _unzip(floats), _unzip(others)

    @torch.no_grad()
    def update(self, num_steps: int) -> None:
        """Update the average with the weights after `num_steps` steps of the optimizer."""
        decay = min(self._decay, (1 + num_steps) / (_WARMUP + num_steps))
        torch._foreach_lerp_(*self._averaged, 1 - decay)
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)

    @torch.no_grad()
    def restart(self) -> None:
        """Forget the average and begin at the weights as they are now."""
        for ours, theirs in (self._averaged, self._copied):
            if ours:
                torch._foreach_copy_(ours, theirs)


def _unzip(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
