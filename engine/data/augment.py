"""Augmentation and normalisation of whole batches, on the device that holds them. No host reads.

Every image draws its own parameters, from torch's default generator of its device. Nothing here makes
the host wait for the device: no value is read back and no shape depends on one.

Random numbers come from `torch.rand` and `torch.randint` alone, with the images as the first dimension of the size:
`torch.rand(len(images), ..., device=...)`. With several devices each draws for the whole batch and transforms its own
rows, because `engine.training.distributed.sharding.GlobalBatchDraws` replaces these two functions and no others. Images
augmented by `randn`, `bernoulli`, `randperm`, `Tensor.uniform_` … would differ with the number of devices, without an
error; tests/unit/test_sharding.py fails for such an operation.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from engine.data.colour import adjust_brightness, adjust_contrast, adjust_gamma, grayscale
from engine.data.geometry import (
    center_crop,
    check_fits,
    crop,
    cut_out,
    flip,
    pad,
    resize,
    resize_shorter,
    resized_crop,
    rotate,
)
from engine.data.trivial_augment import trivial_augment
from presets.schema import (
    Augmentation,
    CenterCrop,
    ColorJitter,
    Cutout,
    Data,
    Gamma,
    Grayscale,
    HorizontalFlip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    Rotation,
    TrivialAugment,
    VerticalFlip,
)

Transform: TypeAlias = Callable[[Tensor], Tensor]

_MEAN_STD: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "fashion-mnist": ((0.2860,) * 3, (0.3530,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Means and standard deviations of red, green and blue in [0, 1]; under a data set's name: of its training images."""
_ATTEMPTS = 10
"""Boxes drawn for an image before the central one is taken, as torchvision does."""


def train_transform(augment: tuple[Augmentation, ...], data: Data, final_size: int | None = None) -> Transform:
    """Return the transform of training images: `augment` in its order, then resize and normalisation.

    Args:
        augment: the operations, as the preset writes them.
        data: size and normalisation.
        final_size: S, if it differs from `data.image_size`, at which the operations work in any case.

    Returns:
        A function from uint8 [B, 3, H, W] on any device to float32 [B, 3, S, S] there, normalised and in
        channels_last memory format. It raises CifartuiError if an image is too small for an operation.
    """
    steps = [_step(operation, data) for operation in augment]
    finish = _Finish(data, final_size or data.image_size)

    def transform(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return finish(images)

    return transform


def plain_transform(data: Data) -> Transform:
    """Return the transform of validation and test images: `data.evaluate`, resize, normalisation.

    See `train_transform` for shapes and types.
    """
    return train_transform(data.evaluate, data)


def mean_and_std(data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and standard deviations of red, green and blue in [0, 1] by which images are normalised."""
    return _MEAN_STD[data.normalize]


def undo_normalize(images: Tensor, data: Data) -> Tensor:
    """Return normalised images, float [B, 3, S, S], as uint8 [B, 3, S, S] to be looked at."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in _MEAN_STD[data.normalize])
    return ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _step(operation: Augmentation, data: Data) -> Transform:
    """Return an operation as a function of a batch, which draws its parameters for every image."""
    image_size = data.image_size
    match operation:
        case Resize():
            shorter = operation.size or max(1, round(image_size * operation.scale))
            return lambda images: resize_shorter(images, shorter)
        case CenterCrop():
            return lambda images: center_crop(images, operation.size or image_size)
        case RandomCrop():
            return lambda images: _random_crop(
                pad(images, operation.padding, operation.fill), operation.size or image_size
            )
        case RandomResizedCrop():
            return lambda images: resized_crop(images, draw_boxes(images, operation), operation.size or image_size)
        case HorizontalFlip():
            return lambda images: flip(images, _happens(images, operation.p), 3)
        case VerticalFlip():
            return lambda images: flip(images, _happens(images, operation.p), 2)
        case Rotation():
            limit = operation.degrees
            return lambda images: rotate(images, _uniform(images, -limit, limit), operation.interpolation)
        case ColorJitter():
            return lambda images: _jitter(images, operation)
        case Gamma():
            return lambda images: adjust_gamma(images, _uniform(images, operation.low, operation.high))
        case Grayscale():
            return lambda images: _sometimes(grayscale(images), images, operation.p)
        case Cutout():
            return _Cutout(operation, data)
        case TrivialAugment():
            return trivial_augment


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw a number between `low` and `high` for every image: float32 [B]."""
    return torch.rand(len(images), device=images.device) * (high - low) + low


def _happens(images: Tensor, p: float) -> Tensor:
    """Draw true with probability `p` for every image: bool [B]."""
    return torch.rand(len(images), device=images.device) < p


def _random_crop(images: Tensor, size: int) -> Tensor:
    check_fits(images, size)
    batch, device = len(images), images.device
    top = torch.randint(images.shape[2] - size + 1, (batch,), device=device)
    left = torch.randint(images.shape[3] - size + 1, (batch,), device=device)
    return crop(images, top, left, size)


def _jitter(images: Tensor, operation: ColorJitter) -> Tensor:
    brightness, contrast = operation.brightness, operation.contrast
    if brightness:
        images = adjust_brightness(images, _uniform(images, 1 - brightness, 1 + brightness))
    if contrast:
        images = adjust_contrast(images, _uniform(images, 1 - contrast, 1 + contrast))
    return images


def _sometimes(changed: Tensor, images: Tensor, p: float) -> Tensor:
    return changed if p == 1 else torch.where(_happens(images, p).view(-1, 1, 1, 1), changed, images)


def draw_boxes(images: Tensor, operation: RandomResizedCrop) -> Tensor:
    """Draw a crop box for every image of `images` ([B, C, H, W]): int64 [B, 4], top, left, height, width.

    As in torchvision: area uniform in `scale`, logarithm of width over height uniform in `ratio`, the first
    of ten draws that fits the image, else the largest central box with an allowed ratio. All ten are drawn
    at once, so that nothing depends on which of them fit.
    """
    batch, (height, width), device = len(images), images.shape[2:], images.device
    area = _between(operation.scale, (batch, _ATTEMPTS), device) * (height * width)
    low, high = operation.ratio
    ratio = _between((math.log(low), math.log(high)), (batch, _ATTEMPTS), device).exp()
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    central_height = min(height, max(1, round(width / low)))
    central_width = min(width, max(1, round(height * high)))
    first = fits.int().argmax(1, keepdim=True)
    any_fits = fits.any(1)
    box_width = torch.where(any_fits, widths.gather(1, first).squeeze(1), central_width)
    box_height = torch.where(any_fits, heights.gather(1, first).squeeze(1), central_height)
    top_share = torch.where(any_fits, torch.rand(batch, device=device), 0.5)
    left_share = torch.where(any_fits, torch.rand(batch, device=device), 0.5)
    top = _offset(top_share, height - box_height)
    left = _offset(left_share, width - box_width)
    return torch.stack((top, left, box_height, box_width), dim=1).long()


def _between(limits: tuple[float, float], shape: tuple[int, int], device: torch.device) -> Tensor:
    return torch.rand(shape, device=device) * (limits[1] - limits[0]) + limits[0]


def _offset(share: Tensor, last: Tensor) -> Tensor:
    """Return whole numbers from 0 to `last`, uniform if `share` is uniform in [0, 1)."""
    return torch.minimum((share * (last + 1)).floor(), last)


class _Cutout:
    """Cutout: fill a square of every image with the mean colour. Caches that colour per device."""

    def __init__(self, operation: Cutout, data: Data) -> None:
        self._operation = operation
        self._mean = torch.tensor(_MEAN_STD[data.normalize][0]).view(1, 3, 1, 1) * 255
        self._means: dict[torch.device, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        batch, device, (height, width) = len(images), images.device, images.shape[2:]
        if device not in self._means:
            self._means[device] = self._mean.to(device)
        row = torch.randint(height, (batch,), device=device)
        column = torch.randint(width, (batch,), device=device)
        cut = cut_out(images, row, column, self._operation.size, self._means[device])
        return _sometimes(cut, images, self._operation.p)


class _Finish:
    """Last part of every transform: final size, normalisation, memory format.

    Caches its constants per device, so that no batch waits for a copy from the host.
    """

    def __init__(self, data: Data, size: int) -> None:
        self._size = size
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
