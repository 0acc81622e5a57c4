"""Seeds as a function of place, never of history: a resumed run draws what the uninterrupted one would have."""

import hashlib

import torch
from torch import Tensor


def seed_at(seed: int, *place: int | str) -> int:
    """Return a 63-bit seed for a place in the run, such as ("step", 3, 120) or ("weights",)."""
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def reseed(device: torch.device, seed: int) -> None:
    """Seed torch's default generators of the CPU and of `device`, and no others.

    torch.manual_seed does every backend's, and takes 0.3 ms for that: a twentieth of a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def permutation(num_images: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the training images in an epoch: int64 [num_images] on the CPU."""
    generator = torch.Generator().manual_seed(seed_at(seed, "order", epoch))
    return torch.randperm(num_images, generator=generator)
