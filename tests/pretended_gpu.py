"""Tensors on a GPU that is not there, and what a GPU's host would have to wait for, counted on any device."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.training.recorded_step import RecordedStep
from engine.training.seeds import reseed
from engine.training.trainer import Trainer

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


class LayoutCopies(TorchDispatchMode):
    """Counts images that are turned from one memory format into another, by a copy or within a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.turned: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        if name in {"clone", "_to_copy", "copy_", "convolution", "native_group_norm"}:
            given, made = args[1 if name == "copy_" else 0], tree_leaves(result)[0]
            planes = [each for each in (given, made) if each.ndim == 4 and each.shape[2] * each.shape[3] > 1]
            formats = {each.is_contiguous(memory_format=torch.channels_last) for each in planes}
            if len(formats) == 2 and given.shape[1] > 1:
                self.turned.append(name)
        return result


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Let tensors be on a GPU that is not there: they have shapes, and whoever asks for a value gets an error.

    torch's autograd and fused SGD want a driver even so: gradients come from nowhere, and SGD moves nothing.
    """
    with ExitStack() as stack:
        for target, stand_in in (
            ("torch._fused_sgd_", _fused_sgd),
            ("copy.deepcopy", _empty_copy),
            ("torch.cuda.Event", mock.Mock(return_value=mock.Mock(query=lambda: False))),
            ("engine.training.step.reseed", lambda _device, _seed: None),
            ("engine.training.optimizers.StageOptimizer.add_gradients", _add_gradients),
            ("torch.nn.Module.to", lambda network, *_args, **_more: network),  # it is there already
        ):
            stack.enter_context(mock.patch(target, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield torch.device("cuda", 0)


def _add_gradients(stage_optimizer: Any, _loss: Tensor) -> None:
    for group in stage_optimizer.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)


def _fused_sgd(*lists: list[Tensor], **_numbers: Any) -> None:
    assert {tensor.device.type for tensor in _tensors(lists)} == {"cuda"}


def _empty_copy(network: Any) -> Any:
    """Return another network of the same classes: one of tensors that are not there cannot be copied."""
    assert isinstance(network, nn.Module)
    other = network.__new__(type(network))
    other.__dict__.update(network.__dict__)
    for name in ("_parameters", "_buffers"):
        made = {key: None if each is None else torch.empty_like(each) for key, each in getattr(network, name).items()}
        other.__dict__[name] = {
            key: nn.Parameter(each) if name == "_parameters" and each is not None else each
            for key, each in made.items()
        }
    other.__dict__["_modules"] = {key: _empty_copy(each) for key, each in network._modules.items()}
    return other


class BakedTape:
    """Records on the CPU as CUDA does: every operation with its numbers as they were, on the memory that it had.

    A recording changes nothing; a replay does the same operations again. What reads a value cannot be recorded.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self._operations: list[tuple[Any, Any, Any, Any]] = []

    def warm_up(self, work: Callable[[], Any]) -> Any:
        self.done.append("warm-up")
        return work()

    def record(self, work: Callable[[], Any]) -> Any:
        self.done.append("record")
        generator = torch.get_rng_state()
        with _Recording() as recording:
            results = work()
        torch.set_rng_state(generator)
        recording.undo()
        self._operations = recording.operations
        return results

    def replay(self) -> None:
        self.done.append("replay")
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            for operation, args, kwargs, results in self._operations:
                for place, result in zip(_tensors(results), _tensors(operation(*args, **kwargs)), strict=True):
                    if _storage(place) != _storage(result):  # else done in place, or a view
                        place.copy_(result)


def taped(trainer: Trainer, tape: BakedTape) -> RecordedStep:
    """Return what lets a trainer on the CPU record its steps on a tape."""
    setup = trainer._setup
    seeds = partial(reseed, setup.device)
    batch_size, say = setup.info.preset.train.batch_size, trainer._journal.write
    return RecordedStep(batch_size, setup.network, setup.device, say, seeds, lambda _device: tape)


class _Recording(TorchDispatchMode):
    """Does operations and notes them, and the memory as it was before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self._own: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(word in str(func) for word in _READS), f"{func} reads a value: a graph cannot"
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            if _storage(tensor) not in self._own | self._before.keys():
                self._before[_storage(tensor)] = _whole(tensor), _whole(tensor).clone()
        results = func(*args, **kwargs)
        self._own |= {_storage(tensor) for tensor in _tensors(results)} - self._before.keys()
        self.operations.append((func, args, kwargs, results))
        return results

    def undo(self) -> None:
        for memory, before in self._before.values():
            memory.copy_(before)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _whole(tensor: Tensor) -> Tensor:
    """Return all of the memory that `tensor` is a view of, as bytes."""
    return torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage())  # type: ignore[call-overload,no-any-return]
