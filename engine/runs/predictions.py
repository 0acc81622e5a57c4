"""Predictions of a run's weights for every image of a split, and their file. No torch.

`engine.runs.scores` says what they add up to.
"""

import mmap
import os
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from engine import files
from engine.files import DAMAGED
from engine.runs.run_dir import RunDir, write_atomically
from presets.errors import CifartuiError
from presets.problems import printable

Split: TypeAlias = Literal["val", "test"]
MAX_SIDE = 96
"""Images are stored no larger than this many pixels a side: a terminal shows no more."""
MOST_TOP = 5
"""Classes that are kept of each image, the most probable ones."""
DIGITS = 4
"""Decimals of a probability: with five classes an image takes about 70 bytes of the file, beside its name."""
_MOST_BYTES = 1 << 30
"""Of the file: some millions of images."""
Probability: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]


class Predictions(Struct, frozen=True, kw_only=True):
    """One entry an image, in the order of the split."""

    run: str
    split: Split
    checkpoint: Literal["best", "last"]
    epoch: int
    """Of the weights."""
    global_step: int
    """Step at which the weights were saved; another one means that the file is out of date."""
    class_names: tuple[str, ...]
    image_size: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    true: tuple[int, ...] | None
    """Class indices; None if the labels of this split are hidden."""
    predicted: tuple[int, ...]
    confidence: tuple[Probability, ...]
    """Softmax probability of the predicted class."""
    top: tuple[tuple[int, ...], ...] = ()
    """The `MOST_TOP` most probable classes of each image, or all if there are fewer, the predicted one first. Empty in
    files of versions before, as is `top_probability`."""
    top_probability: tuple[tuple[Probability, ...], ...] = ()
    """Softmax probabilities of `top`, falling."""
    names: tuple[str, ...] = ()
    """Of the image files, relative to the data set and printable; empty for data that is not of image files."""
    unreadable: tuple[str, ...] = ()
    """Files of the split that cannot be read, and so have no entry in the other columns."""
    most_frequent: int = 0
    """Class index of the most training images."""
    data: str | None = None
    """The path of the data, if it is other data than the run's own."""


def paths(run: RunDir, split: Split) -> tuple[Path, Path]:
    """Return the paths of the predictions of a split and of their pixels, written or not."""
    folder = run.path / "predictions"
    return folder / f"{split}.json", folder / f"{split}.pixels"


def write(run: RunDir, found: Predictions, pixels: bytes) -> None:
    """Store predictions and their images, whole or not at all: the images first.

    Raises:
        OSError: the run's folder cannot be written.
    """
    text, images = paths(run, found.split)
    files.check_no_link(text.parent)
    files.make_folders(text.parent)
    for path, content in ((images, pixels), (text, msgspec.json.encode(found))):
        write_atomically(path, content)


def read(run: RunDir, split: Split) -> Predictions | None:
    """Return the stored predictions of a split, or None if there are none yet.

    Raises:
        CifartuiError: the file is damaged.
    """
    path, _ = paths(run, split)
    try:
        found = msgspec.json.decode(files.read(path, most=_MOST_BYTES), type=Predictions)
    except FileNotFoundError:
        return None
    except (OSError, *DAMAGED) as error:
        raise _damaged(path, printable(str(error))) from error
    if why := _why_damaged(found):
        raise _damaged(path, why)
    return found


def _why_damaged(found: Predictions) -> str:
    """Return what does not fit together in predictions; empty if all does."""
    num_classes, num_images = len(found.class_names), len(found.predicted)
    indices = chain(found.predicted, found.true or (), (found.most_frequent,), *found.top)
    if any(not 0 <= index < num_classes for index in indices):
        return "it names classes that there are not"
    columns = (found.confidence, found.true, found.names or None, found.top or None, found.top_probability or None)
    if any(column is not None and len(column) != num_images for column in columns):
        return "its columns differ in length"
    num_top = min(MOST_TOP, num_classes)
    if bool(found.top) != bool(found.top_probability) or any(
        len(each) != num_top for each in chain(found.top, found.top_probability)
    ):
        return f"it does not have {num_top} classes of every image"
    if any(classes[0] != predicted for classes, predicted in zip(found.top, found.predicted, strict=False)):
        return "its most probable classes are not those it predicts"
    return ""


def _damaged(path: Path, why: str) -> CifartuiError:
    return CifartuiError(f"{printable(str(path))} cannot be read ({why}); delete it, and it will be made again.")


def open_pixels(run: RunDir, found: Predictions) -> mmap.mmap:
    """Return the images of predictions just read, row by row; the caller closes it.

    Raises:
        CifartuiError: they are not there, or are those of other predictions.
    """
    _, path = paths(run, found.split)
    try:
        with os.fdopen(files.open_to_read(path), "rb") as file:
            pixels = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CifartuiError(f"{path} cannot be read ({error}); measure the weights again.") from error
    if len(pixels) != 3 * found.image_size**2 * len(found.predicted):
        pixels.close()
        raise CifartuiError(f"{path} does not hold the images of these predictions; measure the weights again.")
    return pixels
