"""Data set in memory, its record and classes, and the division of its training rows into splits. No files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from engine.journal.data_record import DataRecord, SplitRecord, class_indices, packed_sizes, same_name, without_classes
from presets.errors import CifartuiError
from presets.schema import Data

NO_TEST = "There is no test part: the run is judged on its validation images."
UNLABELLED_TEST = "The test images have no labels, so there is no test accuracy."
HIDDEN_TEST = "The test labels of this packaging are hidden (all 0), so there is no test accuracy."
OF_TEST = (NO_TEST, UNLABELLED_TEST, HIDDEN_TEST)
"""Notices on how a run is judged; a range test is not."""


class UnreadableImagesError(CifartuiError):
    """Too many images cannot be read. `unreadable` has all of them, as `DataSet.unreadable`."""

    def __init__(self, text: str, unreadable: Mapping[str, str]) -> None:
        super().__init__(text)
        self.unreadable = unreadable


@dataclass(frozen=True)
class ImageSplit:
    """Images and their classes, row by row.

    Attributes:
        images: uint8 [N, 3, H, W], contiguous, on the CPU, perhaps memory-mapped; planes red, green, blue.
        labels: int64 [N], on the CPU; indices into the data set's `class_names`.
        names: of image files, relative to the data set's root; empty for other data.
        unreadable: files of this split that cannot be read, and so have no row.
        sizes: of image files, in bytes; empty for other data.
        known_as: names by which a record knows the image files again, where these are a table's; else empty.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    known_as: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """Everything a run needs of its data.

    Attributes:
        name: as presets write it: cifar100, shapes100, class-folders, cub200.
        source: its origin, for people.
        generated: true if a program made the images.
        train: images to learn from.
        val: images that decide which weights are best.
        test: images that are measured once, at the end; None if there is no test part.
        class_names: one a class, in label order.
        test_labels_hidden: true if the test labels are placeholders, so that no test accuracy exists.
        notices: sentences about this data that the user should see.
        unreadable: every image file that cannot be read and is left out, by its printable name, and why.
    """

    name: str
    source: str
    generated: bool
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit | None
    class_names: tuple[str, ...]
    test_labels_hidden: bool = False
    notices: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_test_accuracy(self) -> bool:
        """True if there is a test part, and its labels are known."""
        return self.test is not None and not self.test_labels_hidden


def with_classes(data: DataSet, class_names: Sequence[str]) -> DataSet:
    """Return the data set with labels that are indices into `class_names`, matched by name.

    A notice names those of the classes that it does not have.

    Raises:
        CifartuiError: it has a class that is not among them.
    """
    indices = class_indices(class_names, data.class_names, data.source)
    if indices == list(range(len(class_names))):
        return replace(data, class_names=tuple(class_names))
    table = torch.tensor(indices)
    train, val = (replace(split, labels=table[split.labels]) for split in (data.train, data.val))
    test = None if data.test is None else replace(data.test, labels=table[data.test.labels])
    notices = data.notices
    if missing := without_classes(class_names, data.class_names, data.source):
        notices = (*notices, missing)
    return replace(data, train=train, val=val, test=test, class_names=tuple(class_names), notices=notices)


def record_of(data: DataSet) -> DataRecord:
    """Return the record of a data set, whose labels are read from where they are."""
    splits = {}
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        if split is not None:
            splits[name] = _record_of(split, [same_name(name) for name in data.class_names])
    return DataRecord(dataset=data.name, source=data.source, class_names=data.class_names, splits=splits)


def _record_of(split: ImageSplit, classes: Sequence[str]) -> SplitRecord:
    rows: list[str] = [classes[label] for label in split.labels.tolist()]
    sizes = split.sizes
    if split.names:
        names = split.known_as or split.names
        named = [f"{same_name(name)}\0{row}" for name, row in zip(names, rows, strict=True)]
        order = sorted(range(len(named)), key=lambda at: (named[at], sizes[at] if sizes else 0))
        rows, sizes = [named[at] for at in order], tuple(sizes[at] for at in order if sizes)
    digest = hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
    return SplitRecord(num_images=len(rows), digest=digest, sizes=packed_sizes(sizes))


def split_rows(num_rows: int, data: Data, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the rows of a training file as `data.validation` says; `data.train_limit` comes after.

    Args:
        num_rows: how many rows there are.
        data: the preset's data table.
        seed: decides which rows a fraction takes; every tenth row needs none.

    Returns:
        Row numbers for training and for validation: int64, ascending, disjoint.

    Raises:
        CifartuiError: nothing would be left to train on or to validate with.
    """
    is_val = torch.zeros(num_rows, dtype=torch.bool)
    if data.validation == "every-tenth":
        is_val[::10] = True
    else:
        generator = torch.Generator().manual_seed(seed)
        num_val = round(data.validation * num_rows)
        is_val[torch.randperm(num_rows, generator=generator)[:num_val]] = True
    train_rows, val_rows = (~is_val).nonzero().flatten(), is_val.nonzero().flatten()
    if not len(train_rows) or not len(val_rows):
        raise CifartuiError(
            f"data.validation = {data.validation} divides {num_rows:,} training images into {len(train_rows):,} for "
            f"training and {len(val_rows):,} for validation; choose a fraction that leaves some of both, such as 0.1."
        )
    return train_rows, val_rows
