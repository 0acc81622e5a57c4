"""The preparation of images in an exported graph, beside what validation does with Pillow and torch."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine.data.augment import plain_transform
from engine.data.image_pixels import square_of
from engine.models.build import build
from engine.training.preprocessing import Preprocessed
from presets.schema import BaseNet, CenterCrop, Data, Resize

SIZE = 64


def data(**fields: Any) -> Data:
    return Data(**{"dataset": "class-folders", "image_size": 48, "cache_size": SIZE, "normalize": "imagenet", **fields})


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng((height, width)).integers(0, 256, (height, width, 3), dtype=np.uint8))


def tensor(pixels: Any) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("height", "width", "most_differing"),
    [(64, 64, 0), (64, 65, 0), (20, 20, 0), (1, 5, 0), (480, 640, 0), (37, 200, 0), (77, 77, 0.02), (100, 77, 0.3)],
)
def test_images_of_any_size_become_what_pillow_makes_of_them(height: int, width: int, most_differing: float) -> None:
    """By one level at most: ties are rounded by numbers of other precision, and Pillow may begin with the rows."""
    picture = noise(height, width)
    found = Preprocessed(nn.Flatten(), data(), flip_average=False).squares(tensor(picture))
    levels = (found - tensor(square_of(picture, SIZE))).abs()
    assert levels.max() <= 1
    assert (levels > 0).float().mean() <= most_differing


@pytest.mark.parametrize(
    "operations",
    [(), (Resize(size=72), CenterCrop()), (CenterCrop(size=60),), (Resize(scale=1.25), CenterCrop(size=49))],
)
@pytest.mark.parametrize("image_size", [48, 64])
def test_the_rest_is_what_validation_does(operations: tuple[Resize | CenterCrop, ...], image_size: int) -> None:
    table = data(evaluate=operations, image_size=image_size)
    square = tensor(square_of(noise(200, 180), SIZE))
    expected = plain_transform(table)(square).flatten(1)
    found = Preprocessed(nn.Flatten(), table, flip_average=False)(square)
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=0)


def test_the_mirror_image_counts_where_evaluation_counts_it() -> None:
    torch.manual_seed(0)
    network, table = build(BaseNet(), 7, 32).eval(), data(image_size=32, cache_size=32)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    inputs = plain_transform(table)(images)
    with torch.inference_mode():
        expected = (network(inputs) + network(inputs.flip(3))) / 2
        torch.testing.assert_close(Preprocessed(network, table, flip_average=True)(images), expected)
        torch.testing.assert_close(Preprocessed(network, table, flip_average=False)(images), network(inputs))
