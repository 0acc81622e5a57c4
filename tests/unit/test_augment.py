from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import functional as reference

from engine.data import geometry
from engine.data.augment import plain_transform, train_transform
from presets.errors import CifartuiError
from presets.schema import Augmentation, CenterCrop, Data, HorizontalFlip, RandomCrop, Resize
from tests import every


def data(**values: Any) -> Data:
    return Data(dataset="shapes100", **values)


def batch(num_images: int = 16, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (num_images, 3, height, width), dtype=torch.uint8, generator=generator)


def coordinates(num_images: int, size: int = 32) -> Tensor:
    """Return images whose red is the row, and whose green is the column, of every pixel."""
    axis = torch.arange(size, dtype=torch.uint8)
    image = torch.stack((axis.view(-1, 1).expand(size, size), axis.expand(size, size), torch.ones(size, size).byte()))
    return image.expand(num_images, 3, size, size).contiguous()


def pixels(normalised: Tensor) -> Tensor:
    """Return what a transform with normalize = "none" made, as whole numbers from 0 to 255."""
    return (normalised * 255).round().long()


def test_crops_are_those_of_torchvision() -> None:
    images = batch()
    top, left = torch.randint(9, (16,)), torch.randint(9, (16,))
    cropped = geometry.crop(images, top, left, 24)
    for index, image in enumerate(images):
        assert torch.equal(cropped[index], reference.crop(image, int(top[index]), int(left[index]), 24, 24))


def test_flips_are_those_of_torchvision() -> None:
    images = batch()
    is_flipped = torch.arange(16) % 3 == 0
    flipped, upended = geometry.flip(images, is_flipped), geometry.flip(images, is_flipped, 2)
    for index, image in enumerate(images):
        assert torch.equal(flipped[index], reference.hflip(image) if is_flipped[index] else image)
        assert torch.equal(upended[index], reference.vflip(image) if is_flipped[index] else image)


@pytest.mark.parametrize(("fill", "mode"), [("zeros", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("padding", [1, 4, 31])
def test_padding_is_that_of_torchvision(fill: Any, mode: str, padding: int) -> None:
    images = batch(4)
    assert torch.equal(geometry.pad(images, padding, fill), reference.pad(images, [padding], padding_mode=mode))


@pytest.mark.parametrize("size", [1, 15, 24, 32])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 40)])
def test_centre_crops_are_those_of_torchvision(size: int, height: int, width: int) -> None:
    images = batch(2, height, width)
    assert torch.equal(geometry.center_crop(images, size), reference.center_crop(images, [size]))


@pytest.mark.parametrize("shorter", [8, 20, 32, 47, 128])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 48), (50, 32)])
def test_resized_images_are_within_two_grey_levels_of_torchvision(shorter: int, height: int, width: int) -> None:
    images = batch(3, height, width)
    ours = geometry.resize_shorter(images, shorter)
    theirs = reference.resize(images, [shorter], antialias=True)
    assert ours.shape == theirs.shape
    assert (ours.float() - theirs.float()).abs().max() <= 2


def test_enlarged_images_keep_their_range() -> None:
    resized = geometry.resize(batch(), 100, 100)
    assert resized.min() >= 0
    assert resized.max() <= 255


MEAN_STD = {
    "none": ([0, 0, 0], [1, 1, 1]),
    "unit": ([0, 0, 0], [1, 1, 1]),
    "half": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "cifar100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "mnist": ([0.1307] * 3, [0.3081] * 3),
    "fashion-mnist": ([0.2860] * 3, [0.3530] * 3),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
}


@pytest.mark.parametrize("normalize", get_args(get_type_hints(Data)["normalize"]))
def test_normalisation_is_that_of_torchvision(normalize: str) -> None:
    mean, std = MEAN_STD[normalize]
    images = batch()
    expected = reference.normalize(images.float() / 255, mean, std)
    torch.testing.assert_close(plain_transform(data(normalize=normalize))(images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("operations", [(), every.AUGMENTATIONS, (Resize(size=16),), (HorizontalFlip(),)])
def test_the_result_has_the_promised_form(operations: tuple[Augmentation, ...]) -> None:
    images = batch()
    before = images.clone()
    result = train_transform(operations, data(image_size=40))(images)
    assert (result.shape, result.dtype) == ((16, 3, 40, 40), torch.float32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_operations_keep_their_order() -> None:
    images = coordinates(2)
    crop_then_resize = train_transform((CenterCrop(size=16), Resize(size=32)), data())(images)
    resize_then_crop = train_transform((Resize(size=32), CenterCrop(size=16)), data(image_size=16))(images)
    assert pixels(crop_then_resize)[0, 0].min() == 8
    assert torch.equal(pixels(resize_then_crop), images[:, :, 8:24, 8:24].long())
    assert crop_then_resize.shape[-1] == 32


def test_sizes_default_to_the_final_one() -> None:
    images = batch(2, 40, 40)
    result = train_transform((Resize(scale=1.5), CenterCrop()), data(image_size=24))(images)
    expected = reference.center_crop(reference.resize(images, [36], antialias=True), [24])
    assert (pixels(result) - expected.long()).abs().max() <= 2


def test_crop_places_are_uniform_and_every_image_has_its_own() -> None:
    torch.manual_seed(0)
    num_images, places = 9_000, 9
    result = pixels(train_transform((RandomCrop(size=24),), data(image_size=24))(coordinates(num_images)))
    top, left = result[:, 0, 0, 0], result[:, 1, 0, 0]
    for drawn in (top, left):
        counts = torch.bincount(drawn, minlength=places)
        assert len(counts) == places
        assert (counts - num_images / places).abs().max() < 5 * (num_images / places) ** 0.5
    together = torch.stack((top, left)).double()
    assert torch.corrcoef(together)[0, 1].abs() < 5 / num_images**0.5
    successive = torch.stack((top[:-1], top[1:])).double()
    assert torch.corrcoef(successive)[0, 1].abs() < 5 / num_images**0.5


def test_padded_crops_reach_every_edge() -> None:
    torch.manual_seed(0)
    result = pixels(train_transform((RandomCrop(padding=4),), data())(coordinates(2_000)))
    black_rows = (result[:, 2].amax(2) == 0).sum(1)
    assert set(black_rows.tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_flips_have_their_probability(p: float) -> None:
    torch.manual_seed(0)
    num_images = 4_000
    result = pixels(train_transform((HorizontalFlip(p=p),), data())(coordinates(num_images)))
    is_flipped = result[:, 1, 0, 0] == 31
    assert torch.equal(is_flipped, result[:, 1, 0, 31] == 0)
    assert abs(int(is_flipped.sum()) - p * num_images) <= 5 * (p * (1 - p) * num_images) ** 0.5


def test_the_same_seed_gives_the_same_batch_and_another_seed_another() -> None:
    transform, images = train_transform(every.AUGMENTATIONS, data()), batch()

    def with_seed(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return transform(images)

    first = with_seed(1)
    assert not torch.equal(first, with_seed(2))
    assert torch.equal(first, with_seed(1))


@pytest.mark.parametrize("operation", [RandomCrop(size=33), CenterCrop(size=33), RandomCrop(size=48, padding=4)])
def test_a_crop_larger_than_the_image_is_refused(operation: Augmentation) -> None:
    with pytest.raises(CifartuiError, match="does not fit into images"):
        train_transform((operation,), data())(batch())


def test_a_reflection_wider_than_the_image_is_refused() -> None:
    with pytest.raises(CifartuiError, match="cannot mirror 32 pixels"):
        train_transform((RandomCrop(padding=32, fill="reflect"),), data())(batch())


class NoReadBack(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails where a value or a shape would have to come back from the device."""

    names: set[str]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        assert not any(word in func.name() for word in ("_local_scalar_dense", "nonzero", "masked_select", "unique"))
        if func.name() == "aten::index.Tensor":
            assert all(index is None or index.dtype == torch.int64 for index in args[1])
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_back() -> None:
    transform, images = train_transform(every.AUGMENTATIONS, data(normalize="cifar100")), batch()
    with NoReadBack() as watched:
        transform(images)
    assert {"aten::index.Tensor", "aten::index_select", "aten::_upsample_bilinear2d_aa"} <= watched.names
    with pytest.raises(AssertionError), NoReadBack():
        images[images > 3]


def test_it_runs_on_another_device_without_values() -> None:
    with FakeTensorMode(), NoReadBack():
        transform = train_transform(every.AUGMENTATIONS, data(normalize="cifar100", image_size=40))
        result = transform(torch.empty(8, 3, 32, 32, dtype=torch.uint8, device="cuda"))
    assert (result.shape, result.dtype, result.device.type) == ((8, 3, 40, 40), torch.float32, "cuda")
    assert result.is_contiguous(memory_format=torch.channels_last)
