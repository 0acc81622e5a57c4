"""Record of a run's data: its classes in order, and the number of images and a digest of each split. No torch."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row

_NAMED = 3
_NAMES = {"train": "training", "val": "validation", "test": "test"}


class SplitRecord(Struct, frozen=True, kw_only=True):
    """Number of images of a split, and the SHA-256 of their names and classes (of classes alone if they have no names).

    The digest does not depend on the order of named images, on class indices, or on the folder of the data.
    """

    num_images: Annotated[int, Meta(ge=0, le=2**53)]
    digest: str


class DataRecord(Struct, frozen=True, kw_only=True):
    """Data that a run was trained on, for its journal and its checkpoints."""

    dataset: str
    source: str
    """Folder, archive or program that the data came from."""
    class_names: tuple[str, ...]
    """One a class, in label order."""
    splits: dict[str, SplitRecord]
    """By name: train, val, test."""


def same_name(name: str) -> str:
    """Return a class name in the Unicode form in which names are compared: file systems differ in theirs."""
    return unicodedata.normalize("NFC", name)


def class_indices(trained: Sequence[str], found: Sequence[str], source: str) -> list[int]:
    """Return, for each class found in data, its index among the classes that weights were trained for, by name.

    Args:
        trained: class names of the weights, in order.
        found: class names of the data.
        source: of the data, for the error.

    Raises:
        CifartuiError: the data has a class that the weights do not have.
    """
    index_of = {same_name(name): index for index, name in enumerate(trained)}
    new = [name for name in found if same_name(name) not in index_of]
    if not new:
        return [index_of[same_name(name)] for name in found]
    known = {same_name(name) for name in found}
    missing = [name for name in trained if same_name(name) not in known]
    has = "the class" if len(new) == 1 else "the classes"
    lacks = f", and not {_quoted(missing)}" if missing else ""
    raise CifartuiError(
        f"{visible_in_a_row(source)} has {has} {_quoted(new)}, for which the weights were not trained{lacks}: "
        "name the folders as they were, or train a new run."
    )


def differences(before: DataRecord, now: DataRecord) -> str:
    """Return in a clause how data differ from those recorded before; empty if they are the same, wherever they lie."""
    names = before.splits | now.splits
    return ", ".join(clause for name in names if (clause := _of_split(name, before.splits, now.splits)))


def _of_split(name: str, before: Mapping[str, SplitRecord], now: Mapping[str, SplitRecord]) -> str:
    nothing = SplitRecord(num_images=0, digest="")
    was, is_now, text = before.get(name, nothing), now.get(name, nothing), _NAMES.get(name, visible_in_a_row(name))
    if was == is_now:
        return ""
    if was.num_images != is_now.num_images:
        return f"{is_now.num_images:,} {text} images, not {was.num_images:,}"
    return f"other {text} images or labels than before, though as many"


def _quoted(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    shown = ", ".join(f'"{visible_in_a_row(name)}"' for name in names[:_NAMED])
    return shown + (f" and {more:,} more" if more > 0 else "")
