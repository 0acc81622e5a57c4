"""Geometric operations on whole batches: crops, flips, rotations, resizes. No random draws.

Every function takes images [B, C, H, W] with values 0 to 255 and the parameters of each image; none reads a value
back from the device. Sizes are pixels.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation names it
from torch import Tensor

from presets.errors import CifartuiError


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


def flip(images: Tensor, is_flipped: Tensor, dimension: Literal[2, 3] = 3) -> Tensor:
    """Mirror the images for which `is_flipped` (bool [B]) is true: left and right, or in dimension 2 top and bottom."""
    batch = len(images)
    both = torch.cat((images, images.flip(dimension)))  # choosing whole images from both is faster than torch.where
    return both.index_select(0, torch.arange(batch, device=images.device) + is_flipped * batch)


def cut_out(images: Tensor, row: Tensor, column: Tensor, size: int, fill: Tensor) -> Tensor:
    """Return images ([B, C, H, W]) with a square of every one filled; squares may extend beyond the edge.

    Args:
        images: of any type.
        row: int64 [B], of the square's middle.
        column: int64 [B], likewise.
        size: side of the squares; an even one reaches a pixel further up and left.
        fill: float [1, C, 1, 1].
    """
    rows = torch.arange(images.shape[2], device=images.device) - (row - size // 2)[:, None]
    columns = torch.arange(images.shape[3], device=images.device) - (column - size // 2)[:, None]
    is_cut = ((rows >= 0) & (rows < size))[:, None, :, None] & ((columns >= 0) & (columns < size))[:, None, None]
    return torch.where(is_cut, fill, images.float())


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
    check_fits(images, size)
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]


def resize_shorter(images: Tensor, shorter: int) -> Tensor:
    """Return images ([B, C, H, W]) whose shorter side has `shorter` pixels: float32 if they change."""
    height, width = images.shape[2:]
    if height <= width:
        return resize(images, shorter, int(shorter * width / height))
    return resize(images, int(shorter * height / width), shorter)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Return images ([B, C, H, W], values 0 to 255) in another size, antialiased bilinear.

    The result is float32 in the same range, or the images as they are if they have this size.
    """
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images.float(), size=(height, width), mode="bilinear", antialias=True)


def check_fits(images: Tensor, size: int) -> None:
    """Raise CifartuiError if a square of `size` is larger than the images."""
    if min(images.shape[2:]) < size:
        raise CifartuiError(
            f"A crop of {size}×{size} does not fit into images of {images.shape[3]}×{images.shape[2]}; "
            "put a resize before it, or use a smaller size or more padding."
        )


def resized_crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return the content of every image's own box, resized to `size` × `size`, antialiased bilinear.

    Args:
        images: [B, C, H, W].
        boxes: int64 [B, 4], top, left, height, width; within the images.
        size: of the result.

    Returns:
        float32 [B, C, size, size]. The filter is separable, so it is two matrix products an image, whose
        weights are torch's for `interpolate(..., antialias=True)`: a triangle as wide as one pixel of the
        coarser of the two grids.
    """
    top, left, height, width = boxes.unbind(1)
    rows = resize_weights(top, height, images.shape[2], size)
    columns = resize_weights(left, width, images.shape[3], size)
    return rows[:, None] @ images.float() @ columns[:, None].transpose(2, 3)


def resize_weights(start: Tensor, length: Tensor, num_pixels: int, size: int) -> Tensor:
    """Return [B, size, num_pixels]: the weight of each pixel of an axis in each of the result's; see `resized_crop`."""
    device = start.device
    scale = (length / size).view(-1, 1, 1)
    inside = torch.arange(num_pixels, device=device) - start[:, None]  # places counted from the box's edge
    centers = scale * (torch.arange(size, device=device).view(1, -1, 1) + 0.5)
    distance = (inside[:, None] + 0.5 - centers).abs() / scale.clamp(min=1)
    is_inside = (inside >= 0) & (inside < length[:, None])
    weights = (1 - distance).clamp(min=0) * is_inside[:, None]
    return weights / weights.sum(2, keepdim=True)


def rotate(images: Tensor, degrees: Tensor, interpolation: Literal["nearest", "bilinear"]) -> Tensor:
    """Rotate every image about its middle, counter-clockwise; corners from outside of it are black.

    Args:
        images: [B, C, H, W].
        degrees: float [B].
        interpolation: between the pixels.

    Returns:
        float32 [B, C, H, W].
    """
    height, width = images.shape[2:]
    angle = torch.deg2rad(degrees)
    sine, cosine, none = angle.sin(), angle.cos(), torch.zeros_like(angle)
    # affine_grid counts from -1 to 1 along each side, so sides of unequal length need their ratio.
    matrix = torch.stack((cosine, -sine * (height / width), none, sine * (width / height), cosine, none), dim=1)
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode=interpolation, padding_mode="zeros", align_corners=False)
