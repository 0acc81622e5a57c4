"""What `cifartui doctor --benchmark` measures, as typed lines. Imports no torch: `engine.training.benchmark` measures."""

from typing import Literal, TypeAlias

from msgspec import Struct


class _Line(Struct, frozen=True, kw_only=True, tag_field="type"):
    """One line of the benchmark's output."""


class Device(_Line, frozen=True, kw_only=True, tag=True):
    """What is measured, said first."""

    device: str
    """As torch names it."""
    name: str
    torch: str
    num_threads: int
    """That torch computes with on the CPU."""


class Limit(_Line, frozen=True, kw_only=True, tag=True):
    """What the hardware gives a program that does nothing else."""

    what: Literal["matmul", "convolution", "memory", "host-to-device"]
    precision: str = ""
    """Of matrix products and convolutions: fp32, tf32, bf16 or fp16."""
    per_s: float
    """FLOP a second of these (2 a multiply-add), else bytes a second."""


class Speed(_Line, frozen=True, kw_only=True, tag=True):
    """How fast a preset's network trains, a whole step: gather, augmentation, forward, backward, optimizer."""

    preset: str
    image_size: int
    batch_size: int
    precision: str
    options: tuple[str, ...] = ()
    """What was switched on or off besides, such as "compile"."""
    images_per_s: float | None = None
    flops_per_image: int
    """Forward and backward: three times the forward pass."""
    trouble: str = ""
    """Why there is no number."""


Line: TypeAlias = Device | Limit | Speed


def ceiling(speed: Speed, limits: list[Limit]) -> float | None:
    """Return images/s that arithmetic allows: the best rate measured over the network's FLOPs.

    Matrix products and convolutions come from different libraries on a CPU, so either may be the quicker one.
    None where neither was measured in that precision.
    """
    rates = [
        limit.per_s
        for limit in limits
        if limit.what in {"matmul", "convolution"} and limit.precision == speed.precision
    ]
    return max(rates) / speed.flops_per_image if rates and speed.flops_per_image else None
