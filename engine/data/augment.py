"""Augmentation and normalisation of whole batches, on the device that holds them.

Every image draws its own parameters, from torch's default generator of its device. Nothing here makes
the host wait for the device: no value is read back and no shape depends on one.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation names it
from torch import Tensor

from presets.errors import CifartuiError
from presets.schema import Augmentation, CenterCrop, Data, HorizontalFlip, RandomCrop, Resize

Transform: TypeAlias = Callable[[Tensor], Tensor]

_MEAN_STD: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Means and standard deviations of red, green and blue in [0, 1]; cifar100: of its training images."""


def train_transform(augment: tuple[Augmentation, ...], data: Data) -> Transform:
    """Return what training images go through: `augment` in its order, then what every image does.

    Args:
        augment: the operations, as the preset writes them.
        data: final size and normalisation.

    Returns:
        A function from uint8 [B, 3, H, W] on any device to float32 [B, 3, S, S] there, normalised and in
        channels_last memory format, with S = `data.image_size`. It raises CifartuiError where an image is
        too small for an operation.
    """
    steps = [_step(operation, data.image_size) for operation in augment]
    finish = _Finish(data)

    def transform(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return finish(images)

    return transform


def plain_transform(data: Data) -> Transform:
    """Return what validation and test images go through: resized where needed, and normalised.

    See `train_transform` for shapes and types.
    """
    return train_transform((), data)


def _step(operation: Augmentation, image_size: int) -> Transform:
    if isinstance(operation, Resize):
        shorter = operation.size or max(1, round(image_size * operation.scale))
        return lambda images: resize_shorter(images, shorter)
    if isinstance(operation, CenterCrop):
        side = operation.size or image_size
        return lambda images: center_crop(images, side)
    if isinstance(operation, RandomCrop):
        side, padding, fill = operation.size or image_size, operation.padding, operation.fill
        return lambda images: _random_crop(pad(images, padding, fill), side)
    return lambda images: _random_flip(images, operation)


def _random_crop(images: Tensor, size: int) -> Tensor:
    _check_fits(images, size)
    batch, device = len(images), images.device
    top = torch.randint(images.shape[2] - size + 1, (batch,), device=device)
    left = torch.randint(images.shape[3] - size + 1, (batch,), device=device)
    return crop(images, top, left, size)


def _random_flip(images: Tensor, operation: HorizontalFlip) -> Tensor:
    return flip(images, torch.rand(len(images), device=images.device) < operation.p)


def crop(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Cut a square out of every image.

    Args:
        images: [B, C, H, W].
        top: int64 [B] in [0, H - size].
        left: int64 [B] in [0, W - size].
        size: side of the squares.

    Returns:
        [B, C, size, size].
    """
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # a view of every square that could be cut
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def flip(images: Tensor, is_flipped: Tensor) -> Tensor:
    """Mirror left and right the images ([B, C, H, W]) for which `is_flipped` (bool [B]) is true."""
    batch = len(images)
    both = torch.cat((images, images.flip(3)))  # choosing whole images from both is faster than torch.where
    return both.index_select(0, torch.arange(batch, device=images.device) + is_flipped * batch)


def pad(images: Tensor, padding: int, fill: Literal["zeros", "reflect"]) -> Tensor:
    """Return images ([B, C, H, W]) with `padding` more pixels on every side: black, or mirrored at the edge.

    Raises:
        CifartuiError: an image is too small to be mirrored so far.
    """
    if padding == 0:
        return images
    if fill == "zeros":
        return F.pad(images, (padding, padding, padding, padding))
    if padding >= min(images.shape[2:]):
        raise CifartuiError(
            f"random-crop cannot mirror {padding} pixels of images of {images.shape[3]}×{images.shape[2]}; "
            'use less padding, or fill = "zeros".'
        )
    for dimension in (2, 3):  # torch has no reflection of uint8
        size = images.shape[dimension]
        places = torch.arange(-padding, size + padding, device=images.device).abs()
        images = images.index_select(dimension, (size - 1) - (size - 1 - places).abs())
    return images


def center_crop(images: Tensor, size: int) -> Tensor:
    """Return the middle square of `size` pixels of images ([B, C, H, W]).

    Raises:
        CifartuiError: the images are smaller.
    """
    _check_fits(images, size)
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]


def resize_shorter(images: Tensor, shorter: int) -> Tensor:
    """Return images ([B, C, H, W]) whose shorter side has `shorter` pixels: float32 where they change."""
    height, width = images.shape[2:]
    if height <= width:
        return resize(images, shorter, int(shorter * width / height))
    return resize(images, int(shorter * height / width), shorter)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Return images ([B, C, H, W], values 0 to 255) in another size, antialiased bilinear.

    They come back as float32 in the same range, or as they are where the size is theirs already.
    """
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images.float(), size=(height, width), mode="bilinear", antialias=True)


def _check_fits(images: Tensor, size: int) -> None:
    if min(images.shape[2:]) < size:
        raise CifartuiError(
            f"A crop of {size}×{size} does not fit into images of {images.shape[3]}×{images.shape[2]}; "
            "put a resize before it, or use a smaller size or more padding."
        )


class _Finish:
    """The end of every transform: final size, normalisation, memory format.

    Keeps its constants on the devices it has met, so that no batch waits for a copy from the host.
    """

    def __init__(self, data: Data) -> None:
        self._size = data.image_size
        mean, std = _MEAN_STD[data.normalize]
        self._scale = torch.tensor([1 / (255 * s) for s in std]).view(1, 3, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, 3, 1, 1)
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        device = images.device
        if device not in self._constants:
            self._constants[device] = self._scale.to(device), self._shift.to(device)
        scale, shift = self._constants[device]
        images = resize(images, self._size, self._size)
        # Channels change places last: of the orders measured on a CPU, the fastest.
        return torch.mul(images, scale).add_(shift).contiguous(memory_format=torch.channels_last)
