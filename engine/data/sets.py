"""Data set in memory, and the division of its training rows into splits. No files."""

from dataclasses import dataclass

import torch
from torch import Tensor

from presets.errors import CifartuiError
from presets.schema import Data


@dataclass(frozen=True)
class ImageSplit:
    """Images and their classes, row by row.

    Attributes:
        images: uint8 [N, 3, H, W], contiguous, on the CPU, perhaps memory-mapped; planes red, green, blue.
        labels: int64 [N], on the CPU; indices into the data set's `class_names`.
        names: of image files, relative to the data set's root; empty for other data.
        unreadable: files of this split that cannot be read, and so have no row.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

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

    @property
    def has_test_accuracy(self) -> bool:
        """True if there is a test part, and its labels are known."""
        return self.test is not None and not self.test_labels_hidden


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
