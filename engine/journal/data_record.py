"""Record of a run's data: its classes in order, and the number of images, a digest and file sizes of each split.

No torch, and no image is read: a file is known by its name, its class and its size in bytes.
"""

import base64
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row

_NAMED = 3
_SIZE_BYTES = 4
_MOST_BYTES = 256**_SIZE_BYTES - 1
_NAMES = {"train": "training", "val": "validation", "test": "test"}


class SplitRecord(Struct, frozen=True, kw_only=True):
    """Number of images of a split, and the SHA-256 of their names and classes (of classes alone if they have no names).

    The digest does not depend on the order of named images, on class indices, or on the folder of the data.
    """

    num_images: Annotated[int, Meta(ge=0, le=2**53)]
    digest: str
    sizes: str = ""
    """Sizes of the image files in bytes, in the order of the digest (`packed_sizes`), by which a file that took the
    place of another is seen. In checkpoints only; empty for images that are no files of their own, and in records of
    versions before: then they are not compared."""


class DataRecord(Struct, frozen=True, kw_only=True):
    """Data that a run was trained on, for its journal and its checkpoints."""

    dataset: str
    source: str
    """Folder, archive or program that the data came from."""
    class_names: tuple[str, ...]
    """One a class, in label order."""
    splits: dict[str, SplitRecord]
    """By name: train, val, test."""


def packed_sizes(sizes: Iterable[int]) -> str:
    """Return file sizes in the form of a record: four bytes each, in base64."""
    return base64.b64encode(b"".join(min(size, _MOST_BYTES).to_bytes(_SIZE_BYTES, "little") for size in sizes)).decode()


def without_sizes(record: DataRecord) -> DataRecord:
    """Return a record as the journal has it, whose lines are short."""
    return replace(record, splits={name: replace(split, sizes="") for name, split in record.splits.items()})


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


def without_classes(trained: Sequence[str], found: Sequence[str], source: str) -> str:
    """Return a sentence on the classes that weights were trained for and data does not have; "" if it has all."""
    known = {same_name(name) for name in found}
    missing = [name for name in trained if same_name(name) not in known]
    if not missing:
        return ""
    classes = "class" if len(missing) == 1 else "classes"
    return (
        f"{visible_in_a_row(source)} has no images of the {classes} {_quoted(missing)}, for which the weights were "
        "trained."
    )


def differences(before: DataRecord, now: DataRecord) -> str:
    """Return in a clause how data differ from those recorded before; empty if they are the same, wherever they lie."""
    names = before.splits | now.splits
    return ", ".join(clause for name in names if (clause := _of_split(name, before.splits, now.splits)))


def _of_split(name: str, before: Mapping[str, SplitRecord], now: Mapping[str, SplitRecord]) -> str:
    nothing = SplitRecord(num_images=0, digest="")
    was, is_now, text = before.get(name, nothing), now.get(name, nothing), _NAMES.get(name, visible_in_a_row(name))
    if (was.num_images, was.digest) == (is_now.num_images, is_now.digest):
        num_replaced = _num_replaced(was, is_now)
        images = f"1 {text} image was" if num_replaced == 1 else f"{num_replaced:,} {text} images were"
        return f"{images} replaced (same names, other sizes)" if num_replaced else ""
    if was.num_images != is_now.num_images:
        return f"{is_now.num_images:,} {text} images, not {was.num_images:,}"
    return f"other {text} images or labels than before, though as many"


def _num_replaced(before: SplitRecord, now: SplitRecord) -> int:
    """Return how many files of the same names have other sizes; 0 if one of the records has none."""
    if before.sizes == now.sizes:
        return 0
    try:
        sizes = [base64.b64decode(record.sizes, validate=True) for record in (before, now)]
    except ValueError:  # a checkpoint may be damaged, or a stranger's
        return 0
    if any(len(packed) != _SIZE_BYTES * now.num_images for packed in sizes):
        return 0
    was, is_now = sizes
    return sum(was[at : at + _SIZE_BYTES] != is_now[at : at + _SIZE_BYTES] for at in range(0, len(was), _SIZE_BYTES))


def _quoted(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    shown = ", ".join(f'"{visible_in_a_row(name)}"' for name in names[:_NAMED])
    return shown + (f" and {more:,} more" if more > 0 else "")
