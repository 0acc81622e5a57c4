"""A network compiled by torch, with what was compiled kept for the next run. Knows no training."""

import os
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.cache import cache_folder, make_cache_folder
from presets.errors import CifartuiError


class Compiled(nn.Module):
    """A network as torch.compile makes it for batches of one size; others go through it as it is.

    The parameters are the same ones. The first call compiles, which takes from seconds to minutes; what comes of it is
    kept in the cache folder, where the next run finds it.
    """

    def __init__(self, network: nn.Module, mode: str, batch_size: int) -> None:
        """Prepare; `mode` is torch.compile's: default, reduce-overhead or max-autotune."""
        super().__init__()
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            folder = cache_folder() / "inductor"
            make_cache_folder(folder)  # what torch finds there it runs
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        self.network = network
        self._compiled: Any = torch.compile(network, mode=mode, dynamic=False)
        self._batch_size = batch_size

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of images [B, 3, H, W].

        Raises:
            CifartuiError: the network cannot be compiled here.
        """
        if len(images) != self._batch_size:
            logits: Tensor = self.network(images)
            return logits
        try:
            logits = self._compiled(images)
        except Exception as error:
            raise _explained(error) from error
        return logits


def _explained(error: Exception) -> Exception:
    """Return what the user is told: a sentence where it is the compiler that failed, else the error itself."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return error
    text = (str(error).strip().splitlines() or ["no message"])[0]
    return CifartuiError(
        f"The network could not be compiled ({text}); torch.compile needs a C++ compiler, and on a GPU Triton. "
        'Train with train.compile = "off".'
    )
