"""Memory estimate of training and evaluation, computed without allocating any.

A training step's forward and backward pass is run on fake tensors, which have shapes, dtypes and storages of
stated sizes but no bytes. Every storage that appears is counted until it is freed, so the peak includes what is
saved for the backward pass, the gradients as they arrive and each operation's result; weights and what the
optimizer keeps are added. Evaluation, with more images at once and without gradients, is run in the same way. Not
seen: an operation's own scratch space, the allocator's rounding, the CUDA context (some hundred MB), augmentation,
and the data set. What a CUDA graph keeps for itself is no count but a rule: `StepMemory.recorded`. With bf16 and fp16
it is the CPU's rules of autocast that say what is halved, which a GPU follows but for a few operations.

Compared with what torch's CPU allocator holds at most in a real step with fused SGD or AdamW, as the profiler
records it, the estimates for the networks of the tests are between 0.89 and 1.00 of it: scratch space is missing.
"""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.models.build import build_on_meta
from engine.models.layer_table import check_size, with_tensors
from engine.shared.step_memory import EVAL_BATCH_FACTOR, StepMemory
from presets.errors import CifartuiError
from presets.plan import plan
from presets.schema import AdamW, Optimizer, Preset


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations make, until they are freed.

    Operations also return views of what there was before, such as weights: those go into `uncounted`.
    """

    def __init__(self, uncounted: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._known = set(uncounted)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return result

    def count(self, tensor: Tensor) -> None:
        """Count the tensor's storage, if it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, num_bytes: int) -> None:
        self._known.discard(key)
        self.now -= num_bytes


def estimate(preset: Preset, num_classes: int, precision: str = "fp32") -> StepMemory:
    """Return the memory of a training step of `preset` at its batch size, and of evaluation.

    Args:
        preset: network, image size, batch size and optimizers (of all stages, the one that keeps most).
        num_classes: of the data set.
        precision: fp32, bf16 or fp16 ("auto" counts as fp32): the halves go through autocast, as in training.

    Raises:
        CifartuiError: the network cannot be built for these images, or not be trained at this batch size.
    """
    size, batch_size = preset.data.image_size, preset.train.batch_size
    shapes = build_on_meta(preset.model, num_classes, size)
    with FakeTensorMode():
        network = with_tensors(shapes, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)).train()
        parameters = _bytes(network.parameters()) + _bytes(network.buffers())
        trained = _bytes(parameter for parameter in network.parameters() if parameter.requires_grad)
        images = torch.empty(batch_size, 3, size, size)
        try:
            with check_size(size):
                activations, peak = _trace(network, images, precision)
        except ValueError as error:  # torch's BatchNorm, of one value
            raise CifartuiError(
                f"The network cannot be trained on {batch_size} image of {size}×{size} pixels at once, of which one "
                "value a channel is left to normalise: set train.batch_size to at least 2, or data.image_size higher."
            ) from error
        evaluation = _trace_evaluation(network, batch_size * EVAL_BATCH_FACTOR, size, precision)
    return StepMemory(
        parameters=parameters,
        gradients=trained,
        optimizer_state=trained * max(_state_tensors(stage.optimizer) for stage in plan(preset)),
        activations=activations,
        working=max(peak, trained) - trained - activations,
        evaluation=evaluation,
    )


def _trace(network: nn.Module, images: Tensor, precision: str) -> tuple[int, int]:
    """Return the bytes saved for the backward pass and the peak, parameters and optimizer left out of both."""
    fixed = _storages(network)
    saved = {images.untyped_storage()._cdata: images.untyped_storage()}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in fixed:
            saved[storage._cdata] = storage
        return tensor

    labels = torch.zeros(len(images), dtype=torch.int64)
    with _LiveBytes(uncounted=fixed) as live:
        live.count(images)
        hooks = torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor)
        with hooks, _autocast(precision):
            loss = nn.functional.cross_entropy(network(images), labels)
        activations = sum(storage.nbytes() for storage in saved.values())
        saved.clear()
        loss.backward()  # type: ignore[no-untyped-call]
    return activations, live.peak


def _trace_evaluation(network: nn.Module, num_images: int, size: int, precision: str) -> int:
    """Return the peak of evaluating so many images at once, parameters left out; `network` goes into eval mode."""
    network.eval()
    with torch.no_grad(), _LiveBytes(uncounted=_storages(network)) as live, _autocast(precision):
        network(torch.empty(num_images, 3, size, size))
    peak: int = live.peak
    return peak


def _autocast(precision: str) -> torch.autocast:
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast("cpu", dtype=dtype, enabled=precision in {"bf16", "fp16"})


def _storages(network: nn.Module) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _state_tensors(optimizer: Optimizer) -> int:
    """Return the number of state tensors that the optimizer keeps for every parameter."""
    if isinstance(optimizer, AdamW):
        return 2
    return 1 if optimizer.momentum else 0  # Muon's filters and other weights have one momentum each
