"""Colour operations on whole batches: brightness, contrast, gamma, greyscale. No random draws.

Every function takes images [B, 3, H, W] (red, green, blue; values 0 to 255) and a parameter for each image,
and returns float32 in the same range, not rounded.
"""

from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601)."""


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply every image by its `factor` (float [B]); 0 is black, 1 changes nothing."""
    return (images * factor.view(-1, 1, 1, 1)).clamp(0, 255)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of every image from its mean grey by its `factor` (float [B])."""
    factor = factor.view(-1, 1, 1, 1)
    mean = _luma(images).mean((1, 2, 3), keepdim=True)
    return (images * factor + mean * (1 - factor)).clamp(0, 255)


def adjust_gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Raise values, taken as 0 to 1, to every image's `exponent` (float [B]); above 1 darkens."""
    return (images / 255).pow(exponent.view(-1, 1, 1, 1)) * 255


def grayscale(images: Tensor) -> Tensor:
    """Return the images without colour, in three equal planes."""
    return _luma(images).expand(-1, 3, -1, -1)


def _luma(images: Tensor) -> Tensor:
    return _LUMA[0] * images[:, 0:1] + _LUMA[1] * images[:, 1:2] + _LUMA[2] * images[:, 2:3]
