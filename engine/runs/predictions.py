"""What a run's weights say of every image of a split: the file that the Predictions screen and others read.

Two files in the run's `predictions/` folder: `<split>.json` (this Struct) and `<split>.pixels`, the images
as raw bytes, uint8 [N, image_size, image_size, 3], row by row as in the Struct. Written by
`engine.training.evaluation`; knows no torch.
"""

import mmap
import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from engine import files
from engine.runs.folder import DAMAGED, RunFolder, write_atomically
from presets.errors import CifartuiError
from presets.problems import printable

Split: TypeAlias = Literal["val", "test"]
MAX_SIDE = 96
"""Images are stored no larger than this many pixels a side: a terminal shows no more."""


class Predictions(Struct, frozen=True, kw_only=True):
    """One entry an image, in the order of the split."""

    run: str
    split: Split
    checkpoint: Literal["best", "last"]
    epoch: int
    """Of the weights."""
    global_step: int
    """At which the weights were saved; tells whether the file is out of date."""
    class_names: tuple[str, ...]
    image_size: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    true: tuple[int, ...] | None
    """Class indices; None where the labels of this split are hidden."""
    predicted: tuple[int, ...]
    confidence: tuple[float, ...]
    """Softmax probability of the predicted class."""


def paths(run: RunFolder, split: Split) -> tuple[Path, Path]:
    """Return where the predictions of a split and their pixels lie, written or not."""
    folder = run.path / "predictions"
    return folder / f"{split}.json", folder / f"{split}.pixels"


def write(run: RunFolder, found: Predictions, pixels: bytes) -> None:
    """Store predictions and their images, whole or not at all: the images first.

    Raises:
        OSError: the run's folder cannot be written.
    """
    text, images = paths(run, found.split)
    files.make_folders(text.parent)
    for path, content in ((images, pixels), (text, msgspec.json.encode(found))):
        write_atomically(path, content)


def read(run: RunFolder, split: Split) -> Predictions | None:
    """Return the stored predictions of a split, or None where there are none yet.

    Raises:
        CifartuiError: the file is damaged.
    """
    path, _ = paths(run, split)
    try:
        found = msgspec.json.decode(files.read(path), type=Predictions)
    except FileNotFoundError:
        return None
    except (OSError, *DAMAGED) as error:
        raise _damaged(path, printable(str(error))) from error
    num_classes, num_images = len(found.class_names), len(found.predicted)
    if any(not 0 <= index < num_classes for index in (*found.predicted, *(found.true or ()))):
        raise _damaged(path, "it names classes that there are not")
    if len(found.confidence) != num_images or (found.true is not None and len(found.true) != num_images):
        raise _damaged(path, "its columns differ in length")
    return found


def _damaged(path: Path, why: str) -> CifartuiError:
    return CifartuiError(f"{printable(str(path))} cannot be read ({why}); delete it, and it will be made again.")


def open_pixels(run: RunFolder, found: Predictions) -> mmap.mmap:
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
