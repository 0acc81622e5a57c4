"""Predictions of a run's weights for every image of a split, their file, and the scores they add up to. No torch."""

import mmap
import os
from collections import Counter
from collections.abc import Mapping
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
    confidence: tuple[float, ...]
    """Softmax probability of the predicted class."""
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
        found = msgspec.json.decode(files.read(path), type=Predictions)
    except FileNotFoundError:
        return None
    except (OSError, *DAMAGED) as error:
        raise _damaged(path, printable(str(error))) from error
    num_classes, num_images = len(found.class_names), len(found.predicted)
    if any(not 0 <= index < num_classes for index in (*found.predicted, *(found.true or ()), found.most_frequent)):
        raise _damaged(path, "it names classes that there are not")
    if len(found.confidence) != num_images or (found.true is not None and len(found.true) != num_images):
        raise _damaged(path, "its columns differ in length")
    if found.names and len(found.names) != num_images:
        raise _damaged(path, "its columns differ in length")
    return found


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


Wanted: TypeAlias = Literal["wrong", "right", "all"]


class Score(Struct, frozen=True, kw_only=True):
    """Number of images of a class, or of a group of classes, that are predicted right."""

    name: str
    num_images: int
    hits: int
    group_hits: int | None = None
    """Of a group: images predicted as any class of the group."""

    @property
    def top1(self) -> float:
        """The fraction predicted right."""
        return self.hits / self.num_images


class Confusion(Struct, frozen=True, kw_only=True):
    """Images of one class that are taken for another."""

    true: str
    predicted: str
    num_images: int


def by_class(found: Predictions) -> list[Score]:
    """Return the classes that have images, the worst first; none if the labels are hidden."""
    total, hits = Counter(found.true or ()), Counter(true for true, predicted in _pairs(found) if true == predicted)
    scores = [
        Score(name=found.class_names[index], num_images=count, hits=hits[index]) for index, count in total.items()
    ]
    return sorted(scores, key=lambda score: (score.top1, score.name))


def by_group(found: Predictions, groups: Mapping[str, tuple[str, ...]]) -> list[Score]:
    """Return the groups of classes, the worst first; none if the labels are hidden or the classes are others."""
    group_of = {name: group for group, names in groups.items() for name in names}
    if found.true is None or not set(found.class_names) <= group_of.keys():
        return []
    total: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    group_hits: Counter[str] = Counter()
    for true, predicted in _pairs(found):
        group = group_of[found.class_names[true]]
        total[group] += 1
        hits[group] += true == predicted
        group_hits[group] += group == group_of[found.class_names[predicted]]
    scores = [
        Score(name=group, num_images=count, hits=hits[group], group_hits=group_hits[group])
        for group, count in total.items()
    ]
    return sorted(scores, key=lambda score: (score.top1, score.name))


def confusions(found: Predictions, most: int = 10) -> list[Confusion]:
    """Return the most frequent mistakes, at most so many."""
    wrong = Counter((true, predicted) for true, predicted in _pairs(found) if true != predicted)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [
        Confusion(true=found.class_names[true], predicted=found.class_names[predicted], num_images=count)
        for (true, predicted), count in ranked
    ]


def matching(found: Predictions, wanted: Wanted, part_of_class: str = "") -> list[int]:
    """Return the rows of the images that are wanted, the most confident first.

    With `part_of_class`, only images whose true or predicted class has that in its name, in whatever case. Where the
    labels are hidden nothing is right or wrong, so all are wanted.
    """

    def is_wanted(row: int) -> bool:
        names, predicted = found.class_names[found.predicted[row]], found.predicted[row]
        if found.true is not None:
            if wanted != "all" and (found.true[row] == predicted) != (wanted == "right"):
                return False
            names += "\n" + found.class_names[found.true[row]]
        return part_of_class.lower() in names.lower()

    return sorted(filter(is_wanted, range(len(found.predicted))), key=lambda row: -found.confidence[row])


def _pairs(found: Predictions) -> list[tuple[int, int]]:
    return [] if found.true is None else list(zip(found.true, found.predicted, strict=True))
