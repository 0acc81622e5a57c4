"""Files of a data set of images by part and class, and the split of its training files by their names. No torch."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from engine.shared.image_scan import NO_IMAGE, Unread, shown
from presets.errors import CifartuiError

Part: TypeAlias = Literal["train", "val", "test"]

PARTS: dict[str, Part] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folders that hold a part of a data set, in any case."""
_NAMED = 10
"""Names in a sentence, before the number of the others."""
_BROKEN_ALLOWED, _BROKEN_FRACTION = 10, 0.01
"""Images that a run leaves out because they cannot be read: so many, or so large a part of all, if that is more."""
_LONGEST_NAME = 80
"""Characters of a name in a sentence, before it is cut."""
_FRACTIONS = (0.3, 0.5, 0.7, 0.9, 0.99)
"""Values of data.validation that are advised, the first that takes an image."""
_FRACTIONS_FOR_ALL = (0.2, 0.3, 0.4, 0.5)
"""Likewise, the first that takes an image of each class."""


class Files(Struct, frozen=True):
    """Image files, relative to their listing's root, and their class indices; sorted by class and name."""

    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)


class Listing(Struct, frozen=True, kw_only=True):
    """The files of a data set. A part that it does not have is empty."""

    name: str
    """Data set, as presets write it."""
    root: Path
    layout: str = ""
    """One sentence for people: the folders found, and the parts that are missing."""
    class_names: tuple[str, ...]
    """Sorted, in Unicode's composed form (NFC), printable."""
    train: Files
    val: Files = Files()
    test: Files = Files()
    unlabelled: tuple[str, ...] = ()
    """Test images without labels; then `test` is empty."""
    unlabelled_unread: tuple[str, ...] = ()
    """Images beside them that are not read; a prediction is wanted of every file."""
    unread: tuple[Unread, ...] = ()
    """Files that are not read, by folder and reason."""
    notices: tuple[str, ...] = ()
    """Sentences about this data that the user should see."""
    train_folder: str = ""
    """Folder of the training part, in which the class folders lie; "" if that is the root."""
    known_as: dict[str, str] = {}
    """Name that a table gives a file, by the file's own: files are divided and known again by it, wherever they lie."""


class Rows(NamedTuple):
    """Rows of a listing's training files: to train on, and to validate with; both ascending."""

    train: list[int]
    val: list[int]


def split_by_name(listing: Listing, validation: Literal["every-tenth"] | float, seed: int) -> Rows:
    """Divide the training files by a hash of each one's name, so that others come and go without moving it.

    The name is the path below the training part, or the one that a table gives, in composed form (NFC). A class
    whose images would all validate keeps the one of the highest hash to train on: that one alone may move, once the
    class has more images.

    Args:
        listing: without a validation part; one with such a part keeps all of its training files.
        validation: a tenth, or a fraction between 0 and 1.
        seed: decides which images a fraction takes; a tenth is the same in every run.

    Returns:
        Rows to train on, at least one of each class, and rows to validate with, perhaps none.
    """
    labels = listing.train.labels
    share, salt = (0.1, "") if validation == "every-tenth" else (validation, f"{seed}")
    scores = _scores(listing, salt)
    is_val = [score < share for score in scores]
    has_train = {label for label, val in zip(labels, is_val, strict=True) if not val}
    highest: dict[int, int] = {}
    for row, label in enumerate(labels):
        if label not in has_train and (label not in highest or scores[row] > scores[highest[label]]):
            highest[label] = row
    for row in highest.values():
        is_val[row] = False
    return Rows([row for row, val in enumerate(is_val) if not val], [row for row, val in enumerate(is_val) if val])


def fraction_with_images(listing: Listing, seeds: Sequence[int]) -> float | None:
    """Return a fraction for data.validation with which a run of each seed has an image to validate with.

    None if there is none: where every class has one image, that is trained on.
    """
    if len(listing.train) == len(set(listing.train.labels)):
        return None
    return next((share for share in _FRACTIONS if all(split_by_name(listing, share, seed).val for seed in seeds)), None)


def check_validation(
    listing: Listing,
    validation: Literal["every-tenth"] | float,
    seeds: Sequence[int],
    named: str | None = None,
) -> None:
    """Raise CifartuiError if a run with one of the seeds has no image to validate with.

    Args:
        listing: its validation part is what a run validates with; without one, images are held back.
        validation: as for `split_by_name`.
        seeds: likewise.
        named: the path that the user named, if it is not the listing's root.
    """
    if listing.val:
        return
    drawn_by = seeds[:1] if validation == "every-tenth" else seeds
    if all(split_by_name(listing, validation, seed).val for seed in drawn_by):
        return
    fraction = fraction_with_images(listing, seeds)
    if fraction is not None:
        advice = f"set data.validation={fraction}, add images, or {_by_hand(listing, 'some')}"
    elif len(listing.train) == len(set(listing.train.labels)):
        advice = f"each class has one image, which is trained on: add images, or {_by_hand(listing, 'others')}"
    else:
        advice = f"add images, or {_by_hand(listing, 'some')}"
    raise CifartuiError(
        f"data.validation = {validation} takes none of the {len(listing.train):,} training images in "
        f"{shown(named or str(listing.root))} for validation; {advice}."
    )


def _by_hand(listing: Listing, which: str) -> str:
    """Return how images of one's own choice are validated with: a clause. Published data sets have no such way."""
    if listing.known_as:
        return f"give the table a column split, with val for {which}"
    if not listing.train_folder:
        return f"put the class folders into train/, and {which} into val/"
    return f"put {which} into val/"


def without_drawn(listing: Listing, labels: Iterable[int], seed: int) -> str:
    """Return a sentence about the classes of which no image was drawn to validate with, and what to do; "" if none.

    Args:
        listing: without a validation part.
        labels: of the images that were drawn.
        seed: of the run.
    """
    said = without_images(labels, listing.class_names, "val")
    if not said:
        return ""
    sizes = Counter(listing.train.labels)
    lowest: dict[int, float] = {}
    for label, score in zip(listing.train.labels, _scores(listing, f"{seed}"), strict=True):
        lowest[label] = min(score, lowest.get(label, 1))
    needed = max(lowest.values()) if min(sizes.values()) > 1 else 1
    fraction = next((f"set data.validation={share}" for share in _FRACTIONS_FOR_ALL if needed < share), "")
    by_hand = _by_hand(listing, "images of each class") if listing.name == "class-folders" else ""
    advice = ", or ".join(filter(None, (by_hand, fraction)))
    return f"{said.removesuffix('.')}; {advice}." if advice else said


def _scores(listing: Listing, salt: str) -> list[float]:
    """Return the scores of the training files, by their names below the training part, or by those of a table."""
    prefix = f"{listing.train_folder}/" if listing.train_folder else ""
    known_as = listing.known_as
    return [_score(known_as.get(name) or name.removeprefix(prefix), salt) for name in listing.train.names]


def _score(name: str, salt: str) -> float:
    """Return a number from 0 to 1 that depends on a file's name and on nothing else."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    digest = hashlib.blake2b(f"{salt}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2**64


def are_too_many(num_broken: int, num_images: int) -> bool:
    """Return true if no run starts with so many images that cannot be read, of so many."""
    return num_broken > max(_BROKEN_ALLOWED, _BROKEN_FRACTION * num_images) or num_broken == num_images


def without_images(labels: Iterable[int], class_names: tuple[str, ...], part: str) -> str:
    """Return a sentence about the classes that have no image in a part, given its labels; "" if all have one."""
    there = set(labels)
    missing = [name for label, name in enumerate(class_names) if label not in there]
    if not missing:
        return ""
    what = "validation" if part == "val" else part
    if len(missing) == 1:
        return f"The class {missing[0]} has no {what} image."
    return f"{len(missing):,} classes have no {what} image: {listed(missing)}."


def short(name: str) -> str:
    """Return a name for people, cut if it is very long."""
    text = shown(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def shown_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names for people, by which classes are told apart from then on.

    Raises:
        CifartuiError: two of them look the same.
    """
    found = tuple(map(shown, names))
    if len(set(found)) < len(found):
        alike = next(name for name, number in Counter(found).items() if number > 1)
        raise CifartuiError(
            f"Two classes look the same, {short(alike)}, and differ in characters that cannot be shown; rename one."
        )
    return found


def alike(names: Iterable[str], where: str) -> list[str]:
    """Return what to say of classes whose names differ in upper and lower case only; nothing if there are none.

    Args:
        names: of the classes, in order.
        where: the folder or table that has them, for people.
    """
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), []).append(name)
    groups = [" / ".join(map(short, same)) for same in by_folded.values() if len(same) > 1]
    if not groups:
        return []
    return [
        f"{where} has classes that differ in upper and lower case only, and are read as different ones: "
        f"{listed(groups)}; if they are one, give both one name."
    ]


def listed(names: Iterable[str]) -> str:
    """Return the first names in a row, and how many follow."""
    all_names = [short(name) for name in names]
    more = len(all_names) - _NAMED
    if more > 0:
        return f"{', '.join(all_names[:_NAMED])} and {more:,} more"
    return " and ".join(filter(None, (", ".join(all_names[:-1]), all_names[-1])))


def unread_notices(all_unread: Iterable[Unread], most: int | None = _NAMED, *, beside_data: bool = False) -> list[str]:
    """Return a sentence for each reason why files are not read.

    Of what is no image in the data's own folder there is none, unless `beside_data` asks for it. Behind the first
    `most` of them is one for all others, if these are several.
    """
    by_reason: dict[str, list[Unread]] = {}
    for unread in all_unread:
        if beside_data or unread.folder or not unread.reason.endswith(NO_IMAGE):
            by_reason.setdefault(unread.reason, []).append(unread)
    sentences = []
    reasons = list(by_reason.items())
    num_said = len(reasons) if most is None or len(reasons) == most + 1 else most
    for reason, groups in reasons[:num_said]:
        if len(groups) == 1:
            sentences.append(groups[0].sentence())
            continue
        total = sum(group.num_files for group in groups)
        folders = listed(group.folder or "the folder itself" for group in groups)
        sentences.append(f"{total:,} files in {folders} are not read ({reason}).")
    if others := reasons[num_said:]:
        total = sum(group.num_files for _, groups in others for group in groups)
        sentences.append(f"{total:,} more files are not read, for {len(others):,} other reasons.")
    return sentences
