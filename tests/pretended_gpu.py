"""Tensors on a GPU that is not there, and what a GPU's host would have to wait for, counted on any device."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal.default")


class Waits(TorchDispatchMode):
    """Counts what would make a GPU's host wait: values read back, and copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func)
        if any(word in name for word in _READS):
            self.reads.append(name)
        if "copy" in name:
            tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)]
            if len({tensor.device.type for tensor in tensors}) > 1:
                self.copies.append(name)
        return result


class Copies(TorchDispatchMode):
    """Notes of every copy its number formats, devices, and whether the host goes on before it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on: list[bool] = []
        self.dtypes: set[torch.dtype] = set()
        self.devices: list[set[str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "copy" in str(func):
            tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)]
            self.goes_on.append(any(each is True for each in (*args, (kwargs or {}).get("non_blocking"))))
            self.dtypes.update(tensor.dtype for tensor in tensors)
            self.devices.append({tensor.device.type for tensor in tensors})
        return result


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Let tensors be on a GPU that is not there: they have shapes, and whoever asks for a value gets an error.

    torch's autograd wants a driver even so: gradients are left out.
    """
    with ExitStack() as stack:
        for target, stand_in in (
            ("torch.cuda.Event", mock.Mock(return_value=mock.Mock(query=lambda: False))),
            ("engine.training.step.reseed", lambda _device, _seed: None),
            ("engine.training.optimizers.StageOptimizer.add_gradients", lambda _self, _loss: None),
            ("torch.nn.Module.to", lambda network, *_args, **_more: network),  # it is there already
        ):
            stack.enter_context(mock.patch(target, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield torch.device("cuda", 0)
