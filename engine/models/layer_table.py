"""What a network is made of: the report's layer table, parameter counts, and FLOPs of one image.

All of it is found on the meta device, by shapes alone: no image data, no memory, and the network itself
(its buffers, its training mode, its device) is not touched.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.journal.events import LayerRow
from engine.models.resnet_v2 import StandardisedConv2d
from engine.models.vgg import Add, Concat, Projection

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
}


def layer_table(network: nn.Module, image_size: int) -> tuple[LayerRow, ...]:
    """Return one row for every layer in the order in which one image passes them.

    A layer that is passed more than once has a row each time. Sizes are None for vectors, whose length is
    in the channels. Sums that are no layer of their own (in the ResNets of torchvision) have no row.

    Args:
        network: A module from images (N, 3, image_size, image_size) to logits.
        image_size: Side in pixels.
    """
    rows: list[LayerRow] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows.append(_row(len(rows) + 1, module, inputs[0], output))

    shadow = _on_meta(network)
    for module in shadow.modules():
        if not any(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(note)
    _forward(shadow, image_size)
    return tuple(rows)


def num_parameters(network: nn.Module) -> int:
    """Return how many numbers the network's parameters hold, frozen ones included."""
    return sum(parameter.numel() for parameter in network.parameters())


def num_trainable(network: nn.Module) -> int:
    """Return how many of them get gradients."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def flops_per_image(network: nn.Module, image_size: int) -> int:
    """Return the floating point operations of one image's forward pass, 2 for each multiply-add.

    Convolutions and matrix products are counted, as torch.utils.flop_counter does; the rest is small.
    """
    with FlopCounterMode(display=False) as counter:
        _forward(_on_meta(network), image_size)
    total: int = counter.get_total_flops()
    return total


def _row(number: int, module: nn.Module, taken: Tensor, given: Tensor) -> LayerRow:
    kernel = module.kernel_size if isinstance(module, nn.Conv2d | nn.MaxPool2d) else None
    return LayerRow(
        number=number,
        kind=_KINDS.get(type(module), type(module).__name__),
        kernel=kernel[0] if isinstance(kernel, tuple) else kernel,
        in_size=_size(taken),
        out_size=_size(given),
        in_channels=taken.shape[1],
        out_channels=given.shape[1],
        num_parameters=num_parameters(module),
    )


def _size(images_or_vectors: Tensor) -> int | None:
    return images_or_vectors.shape[-1] if images_or_vectors.ndim == 4 else None


def _on_meta(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose parameters and buffers have shapes but no storage."""
    tensors: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    for parameter in network.parameters():
        tensors[id(parameter)] = nn.Parameter(parameter.to("meta"), parameter.requires_grad)
    return copy.deepcopy(network, tensors).eval()


@torch.no_grad()
def _forward(shadow: nn.Module, image_size: int) -> None:
    shadow(torch.empty(1, 3, image_size, image_size, device="meta"))
