"""Turns, boxes and colours: each as torchvision does it for given parameters, and drawn for every image."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from engine.data import colour, geometry
from engine.data.augment import draw_boxes, train_transform
from presets.schema import (
    Augmentation,
    ColorJitter,
    Data,
    Gamma,
    Grayscale,
    RandomResizedCrop,
    Rotation,
    VerticalFlip,
)

SIZES = [(32, 32), (33, 40), (1, 1)]


def batch(num_images: int, height: int = 32, width: int = 32) -> Tensor:
    """Return images as smooth as photographs are, so that a wrong place shows as a wrong value."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(num_images, 3, 5, 5, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255).byte()


def transform(*operations: Augmentation, image_size: int = 32) -> Any:
    return train_transform(operations, Data(dataset="shapes100", image_size=image_size))


def worst(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.float().round() - theirs.float()).abs().max())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_colours_are_within_two_grey_levels_of_torchvision(height: int, width: int) -> None:
    images = batch(6, height, width)
    factor = torch.tensor([0.0, 0.5, 0.8, 1.0, 1.2, 1.9])
    for index, image in enumerate(images):
        value = float(factor[index])
        assert worst(colour.adjust_brightness(images, factor)[index], reference.adjust_brightness(image, value)) <= 2
        assert worst(colour.adjust_contrast(images, factor)[index], reference.adjust_contrast(image, value)) <= 2
        assert worst(colour.adjust_gamma(images, factor)[index], reference.adjust_gamma(image, value)) <= 2
    assert worst(colour.grayscale(images), reference.rgb_to_grayscale(images, num_output_channels=3)) <= 2


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_turns_are_those_of_torchvision(interpolation: Any, height: int, width: int) -> None:
    images = batch(8, height, width)
    degrees = torch.tensor([-179.0, -91.0, -33.3, 0.0, 10.0, 45.0, 88.0, 171.0])
    ours = geometry.rotate(images, degrees, interpolation)
    mode = v2.InterpolationMode(interpolation)
    theirs = torch.stack(
        [reference.rotate(image, float(turn), mode) for image, turn in zip(images, degrees, strict=True)]
    )
    # Where a place falls exactly between two pixels, or on the edge, rounding may go either way.
    differs = ((ours.round() - theirs.float()).abs() > 2).any(1)
    assert int(differs.sum()) <= 0.01 * differs.numel()


def test_a_turn_is_counter_clockwise() -> None:
    image = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    image[:, :, 4, 8] = 255  # to the right of the middle
    turned = geometry.rotate(image, torch.tensor([90.0]), "nearest")
    assert turned[0, 0].nonzero().tolist() == [[0, 4]]  # above it


@pytest.mark.parametrize("size", [1, 8, 32, 50])
def test_boxes_are_resized_as_torchvision_does(size: int) -> None:
    images = batch(5, 33, 40)
    boxes = torch.tensor([[0, 0, 33, 40], [0, 0, 1, 1], [5, 7, 20, 9], [32, 39, 1, 1], [1, 0, 31, 3]])
    ours = geometry.resized_crop(images, boxes, size)
    for index, image in enumerate(images):
        theirs = reference.resized_crop(image.float(), *boxes[index].tolist(), [size, size])
        assert worst(ours[index], theirs) <= 2


def test_boxes_have_the_areas_and_shapes_asked_for_and_reach_everywhere() -> None:
    torch.manual_seed(0)
    images = torch.zeros(20_000, 1, 100, 100).expand(-1, 3, -1, -1)
    operation = RandomResizedCrop(scale=(0.25, 0.5), ratio=(0.5, 2.0))
    top, left, height, width = draw_boxes(images, operation).double().unbind(1)
    assert (top.min(), left.min()) == (0, 0)
    assert (top + height).max() == (left + width).max() == 100
    area, ratio = height * width / 1e4, (width / height).log2()
    assert 0.24 < area.min() < 0.26
    assert 0.49 < area.max() < 0.51
    assert ratio.min() > -1.05
    assert ratio.max() < 1.05
    assert area.mean() == pytest.approx(0.375, abs=0.005)  # uniform
    assert ratio.mean() == pytest.approx(0, abs=0.02)  # as often wide as high
    free = 100 - width
    assert (left[free > 0] / free[free > 0]).mean() == pytest.approx(0.5, abs=0.01)


def test_where_no_box_fits_the_largest_central_one_is_taken() -> None:
    images = torch.zeros(4, 3, 10, 100)
    boxes = draw_boxes(images, RandomResizedCrop(scale=(0.9, 1.0), ratio=(0.5, 2.0)))
    assert boxes.tolist() == [[0, 40, 10, 20]] * 4


def is_each_drawn_alone(result: Tensor) -> bool:
    """Tell whether copies of one image came out in many ways."""
    return len(torch.unique(result.flatten(1), dim=0)) > len(result) // 2


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Rotation(degrees=180), v2.RandomRotation(180)),
        (ColorJitter(brightness=0.5, contrast=0.5), v2.ColorJitter(0.5, 0.5)),
        (RandomResizedCrop(), v2.RandomResizedCrop(32)),
        (Gamma(low=0.5, high=2.0), None),
    ],
)
def test_every_image_draws_for_itself_where_torchvision_draws_for_the_batch(ours: Augmentation, theirs: Any) -> None:
    torch.manual_seed(0)
    copies = batch(1).expand(64, -1, -1, -1).contiguous()
    assert is_each_drawn_alone(transform(ours)(copies))
    if theirs is not None:
        assert len(torch.unique(theirs(copies).flatten(1), dim=0)) == 1


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", [VerticalFlip, Grayscale])
def test_things_happen_with_their_probability(kind: Any, p: float) -> None:
    torch.manual_seed(0)
    num_images = 2_000
    image = batch(1)
    changed = transform(kind(p=1.0))(image)
    result = transform(kind(p=p))(image.expand(num_images, -1, -1, -1).contiguous())
    happened = torch.isclose(result, changed, atol=1e-4).flatten(1).all(1)
    assert abs(int(happened.sum()) - p * num_images) <= 5 * (p * (1 - p) * num_images) ** 0.5


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [
        (ColorJitter(brightness=0.4), 0.6, 1.4),
        (Gamma(low=0.5, high=1.5), 0.5, 1.5),
    ],
)
def test_strengths_are_uniform_within_their_range(operation: Augmentation, low: float, high: float) -> None:
    torch.manual_seed(0)
    num_images, value = 10_000, 128
    grey = torch.full((num_images, 3, 1, 1), value, dtype=torch.uint8)
    result = transform(operation, image_size=1)(grey)[:, 0, 0, 0].double()
    drawn = (
        result / (value / 255) if isinstance(operation, ColorJitter) else result.log() / torch.tensor(value / 255).log()
    )
    counts = torch.histc(drawn, bins=10, min=low, max=high)
    assert counts.sum() == num_images  # none outside
    assert ((counts - num_images / 10).abs() < 5 * (num_images / 10) ** 0.5).all()
    pairs = torch.stack((drawn[:-1], drawn[1:]))
    assert torch.corrcoef(pairs)[0, 1].abs() < 5 / num_images**0.5


def test_turns_are_uniform_within_their_range() -> None:
    torch.manual_seed(0)
    num_images = 4_000
    image = torch.zeros(1, 3, 65, 65, dtype=torch.uint8)
    image[:, :, 30:35, 56:61] = 255
    turned = transform(Rotation(degrees=90), image_size=65)(image.expand(num_images, -1, -1, -1).contiguous())
    axis = torch.arange(65.0) - 32
    weight = turned[:, 0].sum((1, 2))
    x, y = (turned[:, 0] * axis).sum((1, 2)) / weight, (turned[:, 0] * axis[:, None]).sum((1, 2)) / weight
    degrees = torch.rad2deg(torch.atan2(-y, x))
    counts = torch.histc(degrees, bins=9, min=-91, max=91)
    assert counts.sum() == num_images
    assert ((counts - num_images / 9).abs() < 5 * (num_images / 9) ** 0.5).all()


def test_colour_and_contrast_of_the_jitter_are_independent() -> None:
    torch.manual_seed(0)
    halves = torch.full((5_000, 3, 1, 2), 60, dtype=torch.uint8)
    halves[..., 1] = 120
    jitter = transform(ColorJitter(brightness=0.3, contrast=0.3), image_size=2)
    result = jitter(halves.expand(-1, -1, 2, -1).contiguous())[:, 0, 0].double()
    brightness, contrast = result.mean(1), (result[:, 1] - result[:, 0]) / result.mean(1)
    assert torch.corrcoef(torch.stack((brightness, contrast)))[0, 1].abs() < 5 / 5_000**0.5
