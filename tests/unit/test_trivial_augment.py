"""TrivialAugment: every operation as torchvision does it for the same strength, and drawn for every image."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from engine.data import trivial_augment
from engine.data.augment import train_transform
from presets.schema import Cutout, Data, TrivialAugment
from tests.unit.test_augment_operations import batch

STRENGTHS = [0.0, 0.1, 0.5, 1.0]


def ours(name: str, images: Tensor, strength: float, sign: float = 1.0) -> Tensor:
    size = len(images)
    operation = torch.full((size,), trivial_augment.OPERATIONS.index(name))
    return trivial_augment.apply(images, operation, torch.full((size,), strength), torch.full((size,), sign))


def theirs(name: str, images: Tensor, strength: float, sign: float = 1.0) -> Any:
    blend, shear = 1 + 0.99 * strength * sign, math.degrees(math.atan(0.99 * strength * sign))
    match name:
        case "identity":
            return images
        case "shear-x":
            return reference.affine(images, 0.0, [0, 0], 1.0, [shear, 0.0], center=[0.0, 0.0])
        case "shear-y":
            return reference.affine(images, 0.0, [0, 0], 1.0, [0.0, shear], center=[0.0, 0.0])
        case "translate-x":
            return reference.affine(images, 0.0, [-int(32 * strength * sign), 0], 1.0, [0.0, 0.0])
        case "translate-y":
            return reference.affine(images, 0.0, [0, -int(32 * strength * sign)], 1.0, [0.0, 0.0])
        case "rotate":
            return reference.rotate(images, 135.0 * strength * sign)
        case "brightness":
            return reference.adjust_brightness(images, blend)
        case "colour":
            return reference.adjust_saturation(images, blend)
        case "contrast":
            return reference.adjust_contrast(images, blend)
        case "sharpness":
            return reference.adjust_sharpness(images, blend)
        case "posterize":
            return reference.posterize(images, 8 - round(6 * strength))
        case "solarize":
            return reference.solarize(images, 255 * (1 - strength))
        case "autocontrast":
            return reference.autocontrast(images)
    return reference.equalize(images)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", trivial_augment.OPERATIONS)
def test_each_operation_is_that_of_torchvision(name: str, strength: float, sign: float) -> None:
    images = batch(6)
    difference = (ours(name, images, strength, sign).round() - theirs(name, images, strength, sign).float()).abs()
    # nearest pixels at a tie, and grey levels beside a step, may go either way
    assert (difference > 2).float().mean() < 0.01


def test_every_image_draws_its_own_operation() -> None:
    image = batch(1).expand(400, -1, -1, -1)
    torch.manual_seed(0)
    changed = trivial_augment.trivial_augment(image)
    different = {bytes(each.round().byte().numpy()) for each in changed}
    assert len(different) > 150
    assert changed.min() >= 0
    assert changed.max() <= 255
    same = (changed == image.float()).flatten(1).all(1).float().mean()
    assert 1 / 20 < same < 1 / 5  # identity, and what has no strength


def test_no_operation_reads_a_value_back() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        assert trivial_augment.trivial_augment(images).shape == images.shape  # a fake tensor has no value to read


def test_cutout_fills_a_square_with_what_the_network_sees_as_zero() -> None:
    data = Data(dataset="shapes100", image_size=32, normalize="cifar100")
    images = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    cut = train_transform((Cutout(size=8),), data)(images)
    is_cut = cut.abs() < 1e-5
    assert torch.equal(is_cut[:, 0], is_cut[:, 2])
    areas = is_cut[:, 0].sum((1, 2))
    assert areas.max() == 64
    assert areas.min() >= 16  # the middle is within the image
    assert len(set(areas.tolist())) > 5
    sometimes = train_transform((Cutout(size=8, p=0.5),), data)(images)
    assert 0.3 < (sometimes.abs() < 1e-5).flatten(1).any(1).float().mean() < 0.7


def test_trivial_augment_is_an_operation_of_presets() -> None:
    data = Data(dataset="shapes100", image_size=32)
    assert train_transform((TrivialAugment(),), data)(batch(4)).shape == (4, 3, 32, 32)
