"""shapes100: 32×32 images of ten shapes in ten pairs of colours, made by a program.

For demonstrations and tests without any download. Place, size, rotation, colours, lighting and noise
vary; the class is the shape and its colours. The images are the same in every run and for every seed.
"""

import math

import torch
from torch import Tensor

from engine.data.progress import LoadProgress, Report
from engine.data.sets import DataSet, ImageSplit, split_rows
from presets.schema import Data

SEED = 100
"""Of the generator that all images come from, whatever the run's seed is."""
_SIDE = 32
_TRAIN_PER_CLASS = 100
_TEST_PER_CLASS = 20
_PER_CLASS = _TRAIN_PER_CLASS + _TEST_PER_CLASS

SHAPES = ("disc", "ring", "square", "frame", "triangle", "star", "cross", "bar", "crescent", "half-disc")
_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.25, 0.25),
    "green": (0.30, 0.70, 0.30),
    "blue": (0.25, 0.40, 0.85),
    "yellow": (0.85, 0.80, 0.30),
    "purple": (0.60, 0.30, 0.75),
}
_PAIRS = (
    ("red", "green"), ("green", "red"), ("red", "blue"), ("blue", "red"), ("green", "blue"),
    ("blue", "green"), ("yellow", "purple"), ("purple", "yellow"), ("purple", "blue"), ("yellow", "green"),
)  # fmt: skip
"""Colour of the shape and of what is behind it."""

CLASS_NAMES = tuple(f"{front}-{back} {shape}" for shape in SHAPES for front, back in _PAIRS)

_COLOUR_JITTER = 0.14
_NOISE = 0.10


def make_shapes100(data: Data, seed: int, report: Report) -> DataSet:
    """Draw the data set: 10,000 images to divide into training and validation, and 2,000 to test.

    Args:
        data: how to divide the training images.
        seed: see `split_rows`; the images do not depend on it.
        report: is told after every shape.
    """
    generator = torch.Generator().manual_seed(SEED)
    num_per_shape = len(_PAIRS) * _PER_CLASS
    progress = LoadProgress(report, "generate", "images", "shapes100", len(SHAPES) * num_per_shape)
    drawn = []
    for shape in SHAPES:
        drawn.append(_draw(shape, generator))
        progress.advance(num_per_shape)
    progress.finish()
    by_class = torch.stack(drawn).view(len(CLASS_NAMES), _PER_CLASS, 3, _SIDE, _SIDE)
    train = _mixed(by_class[:, :_TRAIN_PER_CLASS], generator)
    train_rows, val_rows = split_rows(len(train), data, seed)
    train_rows = train_rows[: data.train_limit]
    return DataSet(
        name="shapes100",
        source=f"generated (seed {SEED})",
        generated=True,
        train=ImageSplit(train.images[train_rows], train.labels[train_rows]),
        val=ImageSplit(train.images[val_rows], train.labels[val_rows]),
        test=_mixed(by_class[:, _TRAIN_PER_CLASS:], generator),
        class_names=CLASS_NAMES,
        notices=("These images are generated: accuracies on them say nothing about photographs.",),
    )


def _mixed(by_class: Tensor, generator: torch.Generator) -> ImageSplit:
    """Return uint8 [C, N, 3, H, W] as one split in random order, C labels of N images each."""
    num_classes, per_class = by_class.shape[:2]
    order = torch.randperm(num_classes * per_class, generator=generator)
    return ImageSplit(by_class.flatten(0, 1)[order], order // per_class)


def _draw(shape: str, generator: torch.Generator) -> Tensor:
    """Return all images of a shape, pair by pair: uint8 [pairs × per class, 3, 32, 32]."""
    num_images = len(_PAIRS) * _PER_CLASS
    distance = _distance(shape, *_placed_grid(num_images, generator))
    cover = (0.5 - distance * (_SIDE / 2)).clamp_(0, 1).unsqueeze(1)  # soft over one pixel
    front, back = (_jittered_colours(layer, generator) for layer in (0, 1))
    images = back + cover * (front - back)
    images += _light(num_images, generator)
    images += _NOISE * torch.randn(images.shape, generator=generator)
    return images.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _placed_grid(num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y ([N, 32, 32]) in coordinates turned with each image's shape, and its radius ([N, 1, 1]).

    The image reaches from -1 to 1.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, 1, 1, generator=generator)

    axis = (torch.arange(_SIDE) + 0.5) * (2 / _SIDE) - 1
    radius, angle = uniform(0.4, 0.75), uniform(-0.8, 0.8)
    x = axis.view(1, 1, _SIDE) - uniform(-0.25, 0.25)
    y = axis.view(1, _SIDE, 1) - uniform(-0.25, 0.25)
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin(), radius


def _distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Return the signed distance of every pixel to the shape's edge, negative inside: [N, 32, 32].

    Formulas after Inigo Quilez, "2D distance functions"; some are bounds, which is enough near the edge.
    """
    from_centre = torch.hypot(x, y)
    disc = from_centre - radius
    square = torch.maximum(x.abs(), y.abs()) - 0.8 * radius
    if shape == "disc":
        return disc
    if shape == "ring":
        return (from_centre - 0.8 * radius).abs() - 0.2 * radius
    if shape == "square":
        return square
    if shape == "frame":
        return (square + 0.2 * radius).abs() - 0.2 * radius
    if shape == "triangle":
        return torch.maximum(x.abs() * 0.866 + y * 0.5, -y) - 0.5 * radius
    if shape == "star":
        return _star(x, y, from_centre, radius)
    if shape == "cross":
        return torch.minimum(_box(x, y, radius, 0.3 * radius), _box(x, y, 0.3 * radius, radius))
    if shape == "bar":
        return _box(x, y, radius, 0.35 * radius)
    if shape == "crescent":
        return torch.maximum(disc, 0.8 * radius - torch.hypot(x - 0.5 * radius, y))
    assert shape == "half-disc"
    return torch.maximum(disc, y)


def _box(x: Tensor, y: Tensor, half_width: Tensor, half_height: Tensor) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _star(x: Tensor, y: Tensor, from_centre: Tensor, radius: Tensor) -> Tensor:
    """Return the distance to a five-pointed star: one half of a point, mirrored ten times around."""
    turn = 2 * math.pi / 5
    angle = (torch.remainder(torch.atan2(y, x) + turn / 2, turn) - turn / 2).abs()
    px, py = from_centre * angle.cos(), from_centre * angle.sin()
    inner_x, inner_y = 0.45 * math.cos(turn / 2), 0.45 * math.sin(turn / 2)
    length = math.hypot(inner_y, 1 - inner_x)  # the edge from the tip (1, 0) to the notch, at radius 1
    return (inner_y * (px - radius) + (1 - inner_x) * py) / length


def _jittered_colours(layer: int, generator: torch.Generator) -> Tensor:
    """Return the shape's (0) or the background's (1) colour of every image: [N, 3, 1, 1], in about [0, 1]."""
    colours = torch.tensor([_COLOURS[pair[layer]] for pair in _PAIRS]).repeat_interleave(_PER_CLASS, 0)
    jitter = torch.randn(colours.shape, generator=generator) * _COLOUR_JITTER
    return (colours + jitter).view(-1, 3, 1, 1)


def _light(num_images: int, generator: torch.Generator) -> Tensor:
    """Return a slope of brightness across every image, in a direction of its own: [N, 1, 32, 32]."""
    slope = 0.12 * torch.randn(num_images, 2, 1, 1, generator=generator)
    axis = torch.linspace(-1, 1, _SIDE)
    return slope[:, :1] * axis.view(1, 1, 1, _SIDE) + slope[:, 1:] * axis.view(1, 1, _SIDE, 1)
