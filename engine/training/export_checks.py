"""Comparison of an exported model's file with its network: of logits, and of images that the file resizes. No files."""

from dataclasses import dataclass
from itertools import product

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data.image_pixels import square_of
from engine.training.export_formats import Runner
from engine.training.preprocessing import Preprocessed
from engine.training.trained_network import TrainedNetwork
from engine.training.validation import logits_of
from presets.errors import CifartuiError

ROUNDING = 1e-4
"""Of the largest logit, if that is above 1: float32 sums in another order differ by less (docs/export.md)."""
_SIDES = ((1.3, 1.7), (0.8, 0.6))
"""Height and width of the images with which the preparation in a graph is checked, by the stored size."""
_AT_ONCE = 16
"""Images that are compared at once."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of a file with the network that it was made of.

    Attributes:
        num_images: compared, those of other sizes not counted.
        is_random: they are noise, because the run's data is not here; `why_random` says why.
        largest_difference: of two logits.
        largest_logit: of the network, by absolute value.
        num_agreeing: images with the same top class.
        largest_level: by which a resized image differs from Pillow's, of 255; None if the file resizes none.
        share_of_levels: of the values of resized images that differ.
        resized_difference: of two logits, with images that the file and Pillow resize.
        resized_agreeing: of `num_resized` images, those with the same top class.
        num_resized: images of other sizes than the stored one.
    """

    num_images: int
    is_random: bool
    why_random: str = ""
    largest_difference: float
    largest_logit: float
    num_agreeing: int
    largest_level: int | None = None
    share_of_levels: float | None = None
    resized_difference: float | None = None
    resized_agreeing: int | None = None
    num_resized: int = 0


def compare(expected: Tensor, found: Tensor) -> Checked:
    """Return how logits of a file, [N, C], differ from those expected.

    Raises:
        CifartuiError: by more than float32 numbers that are added in another order.
    """
    if found.shape != expected.shape:
        raise CifartuiError(
            f"The file was not kept: it gives {tuple(found.shape)} logits, not {tuple(expected.shape)}; choose another "
            "--format."
        )
    expected, found = expected.double(), found.double()
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    num_agreeing = int((expected.argmax(1) == found.argmax(1)).sum())
    if not difference <= ROUNDING * max(1.0, largest):  # also if one of them is no number
        raise CifartuiError(
            f"The file was not kept: loaded again, its logits differ from the network's by up to {difference:.2g} on "
            f"{len(expected)} images, and rounding explains {ROUNDING * max(1.0, largest):.2g}; choose another "
            "--format."
        )
    return Checked(
        num_images=len(expected),
        is_random=False,
        largest_difference=difference,
        largest_logit=largest,
        num_agreeing=num_agreeing,
    )


@dataclass
class _Resized:
    """Comparison with Pillow so far."""

    largest_level: float = 0.0
    num_values: int = 0
    num_differing: int = 0
    difference: float = 0.0
    num_agreeing: int = 0
    num_images: int = 0


def with_resized(
    checked: Checked, module: Preprocessed, trained: TrainedNetwork, run: Runner, images: Tensor
) -> Checked:
    """Return the comparison with that of images of other sizes, which the file resizes itself and Pillow resizes.

    Raises:
        CifartuiError: the file differs from the same operations in torch.
    """
    found, size = _Resized(), trained.stored_size
    for (tall, wide), some in product(_SIDES, images.split(_AT_ONCE)):  # type: ignore[no-untyped-call]
        sides = max(1, round(wide * size)), max(1, round(tall * size))
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()).resize(sides) for image in some]
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
        pixels = pixels.contiguous()
        squares = torch.from_numpy(np.stack([square_of(picture, size) for picture in pictures])).permute(0, 3, 1, 2)
        levels = (module.squares(pixels) - squares.float()).abs()
        flip_average = trained.info.preset.train.flip_average
        by_pillow = logits_of(
            trained.network, squares.contiguous(), trained.transform, trained.autocast, flip_average=flip_average
        )
        by_file = run(pixels)
        compare(module(pixels), by_file)
        found.largest_level = max(found.largest_level, float(levels.max()))
        found.num_values += levels.numel()
        found.num_differing += int((levels > 0).sum())
        found.difference = max(found.difference, float((by_pillow - by_file).abs().max()))
        found.num_agreeing += int((by_pillow.argmax(1) == by_file.argmax(1)).sum())
        found.num_images += len(some)
    return msgspec.structs.replace(
        checked,
        largest_level=round(found.largest_level),
        share_of_levels=found.num_differing / found.num_values,
        resized_difference=found.difference,
        resized_agreeing=found.num_agreeing,
        num_resized=found.num_images,
    )
