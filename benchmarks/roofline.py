"""A model, no measurement: kernels, FLOPs and bytes of a preset's training step, and what they allow on named GPUs.

python -m benchmarks.roofline [PRESET]... [--precision bf16]

A step is taken with tensors that have shapes and no values, so it needs no GPU and no memory. Every operation that
torch dispatches and that is no view counts as one kernel, unless `_KERNELS` says otherwise (libraries may launch more);
it reads its arguments once, unless `_NUM_READS` says otherwise, and writes its results once. A step lasts at least as
long as its FLOPs at the data sheet's rate of dense products, its bytes at the data sheet's bandwidth (kernel by kernel,
whichever is longer), or the host's launches.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from engine.models.build import build_on_meta
from engine.models.layer_table import with_tensors
from engine.training import benchmark
from presets import catalog
from tests.tiny_trainer import NO_RECORD

PRESETS = ("basenet", "vgg-custom", "recipes/vgg-custom-fast", "recipes/speedrun-75", "networks/resnet18")
_CLASSES = 100
_LAUNCH_S = 6e-6
"""Host's time for an operation of eager PyTorch: an assumption, of the usual order."""


class Gpu(NamedTuple):
    """Data sheet: dense bf16 FLOP/s and bytes/s."""

    name: str
    flops: float
    bytes_per_s: float


GPUS = (Gpu("A100 40 GB", 312e12, 1.555e12), Gpu("H100 SXM", 989e12, 3.35e12), Gpu("RTX 4090", 165e12, 1.008e12))
_KERNELS = {"convolution_backward": 2, "_fused_sgd_": 1, "native_dropout": 1, "cudnn_batch_norm_backward": 1}
_NUM_READS = {"convolution_backward": 2, "native_batch_norm": 2, "native_batch_norm_backward": 2}
"""Number of times that an operation reads what it is given: gradients of images and of weights; statistics first."""
_PICK = ("index", "index_select", "gather")
_NONE = (
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "lift_fresh",
    "lift_fresh_copy",
    "record_function",
)


class Kernel(NamedTuple):
    """One operation of a step."""

    name: str
    number: int
    flops: int
    num_bytes: int

    def seconds(self, gpu: Gpu) -> float:
        """Return the least time that a GPU takes for it."""
        return max(self.flops / gpu.flops, self.num_bytes / gpu.bytes_per_s)


class Counter(TorchDispatchMode):
    """Notes the kernels of what is done within."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        name = packet.__name__
        if not func.is_view and name not in _NONE and func.namespace == "aten":
            flops = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
            self.note(name, (args, kwargs), args[0] if result is None else result, flops)  # None: in place
        return result

    def note(self, name: str, given: Any, result: Any, flops: int = 0) -> None:
        """Add an operation, which reads what it is given and writes its result; some read no more than they write."""
        written = _num_bytes(result)
        read = min(_num_bytes(given), 2 * written) if name in _PICK else _NUM_READS.get(name, 1) * _num_bytes(given)
        self.kernels.append(Kernel(name, _KERNELS.get(name, 1), int(flops), read + written))


def _num_bytes(value: Any) -> int:
    """Return the bytes of the tensors in `value`, each no more than the memory that it is a view of."""
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return sum(min(each.numel() * each.element_size(), each.untyped_storage().nbytes()) for each in tensors)


class Step(NamedTuple):
    """A step of a preset: its kernels, and how many images they are for."""

    kernels: Sequence[Kernel]
    batch_size: int

    @property
    def num_kernels(self) -> int:
        """Kernels that the host launches."""
        return sum(kernel.number for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """FLOPs of all, 2 a multiply-add."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def num_bytes(self) -> int:
        """Bytes that all read and write."""
        return sum(kernel.num_bytes for kernel in self.kernels)

    @property
    def other_bytes(self) -> int:
        """Bytes outside of products and convolutions."""
        return sum(kernel.num_bytes for kernel in self.kernels if not kernel.flops)

    def seconds(self, gpu: Gpu) -> float:
        """Return the least time of all kernels on a GPU, one after another."""
        return sum(kernel.seconds(gpu) for kernel in self.kernels)


def count(name: str, precision: str = "bf16", overrides: Sequence[str] = ()) -> Step:
    """Return the second step of a preset, as it is taken eagerly."""
    preset, counter = catalog.load(name, tuple(overrides)), Counter()

    def fused_sgd(*given: Any, **_numbers: Any) -> None:
        counter.note("_fused_sgd_", given, (given[0], given[2]))  # weights and momentum, not the gradients

    with ExitStack() as stack:
        for target, stand_in in (
            ("torch._fused_sgd_", fused_sgd),  # has no form without values
            ("engine.training.benchmark.record_of", lambda _data: NO_RECORD),
            ("torch.nn.Module.to", lambda network, *_args, **_more: network),  # it is as it shall be
            ("engine.training.muon.has_bf16", lambda _device: True),
        ):
            stack.enter_context(mock.patch(target, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        network = with_tensors(build_on_meta(preset.model, _CLASSES, preset.data.image_size), _empty)
        setup = benchmark.random_setup(torch.device("cpu"), preset, precision, network)
        step = benchmark.stepping(setup, benchmark.Alerts())
        step()
        with counter:
            step()
    return Step(counter.kernels, preset.train.batch_size)


def _empty(tensor: Tensor) -> Tensor:
    memory_format = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=memory_format)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=PRESETS, metavar="PRESET")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    asked = parser.parse_args()
    print(f"A model, not a measurement: eager steps in {asked.precision}.\n")
    print("| preset | kernels a step | GFLOP an image | MB an image | of which outside products |", end="")
    print("".join(f" {gpu.name}: images/s at most | of peak |" for gpu in GPUS), "host at most |")
    print("|---|---|---|---|---|" + "---|---|" * len(GPUS) + "---|")
    for name in asked.presets:
        step = count(name, asked.precision)
        images = step.batch_size
        cells = [f"`{name}`", f"{step.num_kernels}", f"{step.flops / images / 1e9:.3g}"]
        cells += [f"{step.num_bytes / images / 1e6:.3g}", f"{step.other_bytes / step.num_bytes:.0%}"]
        for gpu in GPUS:
            seconds = step.seconds(gpu)
            cells += [f"{images / seconds:,.0f}", f"{step.flops / seconds / gpu.flops:.0%}"]
        cells.append(f"{images / (step.num_kernels * _LAUNCH_S):,.0f}")
        print("| " + " | ".join(cells) + " |", flush=True)
    print(
        f"\nHost: {_LAUNCH_S * 1e6:.0f} µs a kernel, an assumption; recorded steps (train.cuda_graphs) do without it."
    )


if __name__ == "__main__":
    main()
