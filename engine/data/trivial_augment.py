"""TrivialAugment (wide) for whole batches: one of fourteen operations for every image, at a strength of its own.

Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021, with the
wide ranges of strength. What moves pixels is one sampling of the whole batch, and what changes their values a
few passes over it, in which every image takes its own operation: no value is read back, no shape depends on one.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation names it
from torch import Tensor

from engine.data.colour import grayscale

OPERATIONS = (
    "identity", "shear-x", "shear-y", "translate-x", "translate-y", "rotate", "brightness", "colour", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
_NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
_MAX_SHEAR, _MAX_SHIFT, _MAX_DEGREES, _MAX_BLEND = 0.99, 32.0, 135.0, 0.99
_BIT_RANGE = 6
"""Posterize keeps 8 bits down to 2."""
_NUM_STRENGTHS = 31


def trivial_augment(images: Tensor) -> Tensor:
    """Return `images` ([B, 3, H, W], values 0 to 255), each changed by an operation drawn for it: float32."""
    batch, device = len(images), images.device
    operation = torch.randint(len(OPERATIONS), (batch,), device=device)
    strength = torch.randint(_NUM_STRENGTHS, (batch,), device=device) / (_NUM_STRENGTHS - 1)
    sign = torch.randint(2, (batch,), device=device) * 2.0 - 1.0
    return apply(images, operation, strength, sign)


def apply(images: Tensor, operation: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """Change every image by its own operation.

    Args:
        images: [B, 3, H, W], values 0 to 255.
        operation: int64 [B], places in OPERATIONS.
        strength: float [B] in [0, 1]; 0 changes nothing.
        sign: float [B], 1 or -1: the direction, where an operation has two.

    Returns:
        float32 [B, 3, H, W], values 0 to 255.
    """
    images = _move(images.float(), operation, strength * sign)
    images = _blend(images, operation, 1 + _MAX_BLEND * strength * sign)
    images = torch.where(_is(operation, "posterize"), _posterize(images, strength), images)
    threshold = (255 * (1 - strength)).view(-1, 1, 1, 1)
    images = torch.where(_is(operation, "solarize") & (images >= threshold), 255 - images, images)
    images = torch.where(_is(operation, "autocontrast"), _autocontrast(images), images)
    return torch.where(_is(operation, "equalize"), _equalize(images), images)


def _is(operation: Tensor, name: str) -> Tensor:
    return (operation == _NUMBER[name]).view(-1, 1, 1, 1)


def _move(images: Tensor, operation: Tensor, signed: Tensor) -> Tensor:
    """Shear, shift or turn; others keep every pixel where it is. What comes in from outside is black.

    Shears keep the upper left corner, as the published code does; turns keep the middle.
    """
    height, width = images.shape[2:]

    def only(name: str, value: Tensor) -> Tensor:
        return torch.where(operation == _NUMBER[name], value, 0.0)

    angle = only("rotate", signed * math.radians(_MAX_DEGREES))
    cosine, sine = angle.cos(), angle.sin()
    shear_x, shear_y = only("shear-x", signed * _MAX_SHEAR), only("shear-y", signed * _MAX_SHEAR)
    shift_x = only("translate-x", (signed * _MAX_SHIFT).trunc())
    shift_y = only("translate-y", (signed * _MAX_SHIFT).trunc())
    x = (torch.arange(width, device=images.device) + 0.5).view(1, 1, -1)  # middles of the result's pixels
    y = (torch.arange(height, device=images.device) + 0.5).view(1, -1, 1)
    a, b, c, d = (each.view(-1, 1, 1) for each in (cosine, shear_x - sine, shear_y + sine, cosine))
    turns = (operation == _NUMBER["rotate"]).view(-1, 1, 1)
    middle_x, middle_y = torch.where(turns, width / 2, 0.0), torch.where(turns, height / 2, 0.0)
    from_x = a * (x - middle_x) + b * (y - middle_y) + middle_x + shift_x.view(-1, 1, 1)
    from_y = c * (x - middle_x) + d * (y - middle_y) + middle_y + shift_y.view(-1, 1, 1)
    grid = torch.stack((from_x / width * 2 - 1, from_y / height * 2 - 1), dim=3)
    return F.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _blend(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Move images away from, or towards, black, their grey selves, their mean grey or their smooth selves."""
    grey = grayscale(images)
    towards = torch.where(_is(operation, "brightness"), 0.0, images)
    towards = torch.where(_is(operation, "colour"), grey, towards)
    towards = torch.where(_is(operation, "contrast"), grey[:, :1].mean((2, 3), keepdim=True), towards)
    towards = torch.where(_is(operation, "sharpness"), _smooth(images), towards)
    return torch.lerp(towards, images, factor.view(-1, 1, 1, 1)).clamp(0, 255)


def _smooth(images: Tensor) -> Tensor:
    """Return images whose pixels took in their neighbours, but for those at the edge."""
    kernel = images.new_ones(3, 3)
    kernel[1, 1] = 5
    kernel = (kernel / 13).expand(3, 1, 3, 3)
    if min(images.shape[2:]) < 3:
        return images
    inner = F.conv2d(images, kernel, groups=3)
    return F.pad(inner, (1, 1, 1, 1)) + _edge(images)


def _edge(images: Tensor) -> Tensor:
    edge = images.clone()
    edge[:, :, 1:-1, 1:-1] = 0
    return edge


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keep the upper 8 to 2 bits."""
    size = torch.exp2((_BIT_RANGE * strength).round()).view(-1, 1, 1, 1)
    return (images / size).floor() * size


def _autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to 0 to 255."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * (255 / (high - low).clamp(min=1e-6)), images)


def _equalize(images: Tensor) -> Tensor:
    """Spread every channel's values evenly over 0 to 255, by the integer steps of the Python Imaging Library."""
    batch, channels, height, width = images.shape
    values = images.round().long().view(batch * channels, height * width)
    counts = values.new_zeros(batch * channels, 256).scatter_add_(1, values, torch.ones_like(values))
    last = counts.gather(1, values.amax(1, keepdim=True))
    step = (height * width - last) // 255
    table = (counts.cumsum(1) - counts + step // 2) // step.clamp(min=1)  # what is darker, in steps
    spread = table.clamp(0, 255).gather(1, values).view_as(images)
    return torch.where(step.view(batch, channels, 1, 1) > 0, spread, values.view_as(images)).to(images.dtype)
