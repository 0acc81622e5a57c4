"""Layer table of a network as in the report, its parameter counts, and FLOPs of one image, forward and backward.

All of it is computed on the meta device, by shapes alone: no image data, no memory, and the network itself
(its buffers, its training mode, its device) is not touched.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from engine.journal.events import LayerRow
from engine.models.resnet_v2 import StandardisedConv2d
from engine.models.vgg import Add, Concat, Projection
from presets.errors import CifartuiError

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    Projection: "conv",
    StandardisedConv2d: "conv",
    nn.BatchNorm2d: "BN",
    nn.BatchNorm1d: "BN",
    nn.GroupNorm: "GN",
    nn.Dropout: "dropout",
    Add: "add",
    Concat: "concatenate",
    nn.ReLU: "ReLU",
    nn.MaxPool2d: "maxpool",
    nn.AdaptiveAvgPool2d: "adaptive average pool",
    nn.AdaptiveMaxPool2d: "adaptive maximum pool",
    nn.Flatten: "flatten",
    nn.Linear: "linear",
    nn.LayerNorm: "LN",
    nn.MultiheadAttention: "attention",
}
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


def layer_table(network: nn.Module, image_size: int) -> tuple[LayerRow, ...]:
    """Return one row for every layer in the order in which one image passes them.

    A layer that is passed more than once has a row each time. Sizes are None for vectors, whose length is
    in the channels. Sums that are no layer of their own (in the ResNets of torchvision) have no row. A module that
    computes with parameters of its own, or with those of layers inside it (attention), has one for these.

    Args:
        network: A module from images (N, 3, image_size, image_size) to logits.
        image_size: Side in pixels.
    """
    rows: list[LayerRow] = []
    counted: set[int] = set()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        parameters = list(module.parameters())
        is_leaf = not any(module.children())
        if not is_leaf:
            parameters = [each for each in parameters if id(each) not in counted]
        counted.update(map(id, parameters))
        given = _first_tensor(output)
        if given is not None and (parameters if not is_leaf else not isinstance(module, nn.Identity)):
            taken = _first_tensor(inputs)
            number = sum(each.numel() for each in parameters)
            rows.append(_row(len(rows) + 1, module, given if taken is None else taken, given, number))

    shadow = _on_meta(network)
    for module in shadow.modules():
        module.register_forward_hook(note)
    with torch.no_grad():
        _forward(shadow, image_size)
    return tuple(rows)


def num_parameters(network: nn.Module) -> int:
    """Return the number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in network.parameters())


def num_trainable(network: nn.Module) -> int:
    """Return the number of parameters that get gradients."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class PassFlops(NamedTuple):
    """FLOPs of one image: of its forward pass, and of the backward pass to what is trained."""

    forward: int
    backward: int


class StageFlops(NamedTuple):
    """FLOPs of one image in a stage of training."""

    passes: Mapping[int, PassFlops]
    """By the side of the image in pixels."""
    features: int = 0
    """Of the forward pass through a frozen backbone, up to the last layer; 0 where nothing is frozen."""


def pass_flops(network: Callable[[Tensor], object], image_size: int) -> PassFlops:
    """Return the floating point operations of one image, 2 for each multiply-add.

    Convolutions and matrix products are counted, by the formulas of torch.utils.flop_counter; the rest is small. Each
    costs once more for the gradient of each of its two factors that has one: frozen weights and the images have none.
    (That package's own formula counts the gradient of a convolution's weights once for every group.)

    Args:
        network: on the meta device, in eval mode.
        image_size: side in pixels.
    """
    with torch.enable_grad(), _Products() as products:
        _forward(network, image_size)
    return PassFlops(products.forward, products.backward)


def flops_per_image(network: nn.Module, image_size: int) -> int:
    """Return the floating point operations of one image's forward pass, as `pass_flops` counts them."""
    with torch.no_grad(), _Products() as products:
        _forward(_on_meta(network), image_size)
    total: int = products.forward
    return total


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of convolutions and matrix products, and of those that their gradients take."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.forward = 0
        self.backward = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            flops = int(count(*args, **kwargs, out_val=result))
            factors = [each for each in args if isinstance(each, Tensor) and each.ndim > 1]
            self.forward += flops
            self.backward += flops * sum(factor.requires_grad for factor in factors[-2:])
        return result


def _first_tensor(values: Any) -> Tensor | None:
    if isinstance(values, Tensor):
        return values
    found = values if isinstance(values, tuple | list) else ()
    return next((each for each in found if isinstance(each, Tensor)), None)


def _row(number: int, module: nn.Module, taken: Tensor, given: Tensor, parameters: int) -> LayerRow:
    kernel = module.kernel_size if isinstance(module, nn.Conv2d | nn.MaxPool2d) else None
    return LayerRow(
        number=number,
        kind=_KINDS.get(type(module), type(module).__name__),
        kernel=kernel[0] if isinstance(kernel, tuple) else kernel,
        in_size=_size(taken, module),
        out_size=_size(given, module),
        in_channels=taken.shape[_channel_axis(taken, module)],
        out_channels=given.shape[_channel_axis(given, module)],
        num_parameters=parameters,
    )


def _channel_axis(tensor: Tensor, module: nn.Module) -> int:
    """Return the axis of the channels: the last of vectors, of tokens [B, N, C] and behind layers that act on it."""
    return -1 if tensor.ndim == 3 or isinstance(module, _CHANNELS_LAST) else min(1, tensor.ndim - 1)


def _size(tensor: Tensor, module: nn.Module) -> int | None:
    """Return the side of maps in pixels; None of vectors and tokens."""
    if tensor.ndim != 4:
        return None
    return tensor.shape[2] if isinstance(module, _CHANNELS_LAST) else tensor.shape[-1]


def _on_meta(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose parameters and buffers have shapes but no storage."""
    return with_tensors(network, lambda tensor: tensor.to("meta")).eval()


def with_tensors(network: nn.Module, make: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a copy of the network with what `make` gives for each of its parameters and buffers."""
    tensors: dict[int, Any] = {id(buffer): make(buffer) for buffer in network.buffers()}
    for parameter in network.parameters():
        tensors[id(parameter)] = nn.Parameter(make(parameter), parameter.requires_grad)
    return copy.deepcopy(network, tensors)


@contextmanager
def check_size(image_size: int) -> Iterator[None]:
    """Raise a CifartuiError in place of what torch says of images that a network cannot take."""
    try:
        yield
    except (RuntimeError, AssertionError, IndexError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise CifartuiError(
            f"The network cannot take images of {image_size}×{image_size} pixels ({reason}): set data.image_size to "
            "the size that it was made for."
        ) from error


def _forward(shadow: Callable[[Tensor], object], image_size: int) -> None:
    with check_size(image_size):
        shadow(torch.empty(1, 3, image_size, image_size, device="meta"))
