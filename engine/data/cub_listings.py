"""Listings of CUB-200's image files by its own tables. No decoding. File names are relative to the listing's root."""

import re
from pathlib import Path

from engine.shared.image_parts import Files, Listing
from presets.errors import CifartuiError


def list_cub_2010(root: Path) -> Listing:
    """List Caltech-UCSD Birds 200 of 2010: `lists/train.txt` and `lists/test.txt` name files of `images/`.

    Raises:
        CifartuiError: a list cannot be read, or is not of the form `NNN.Name/file.jpg`, one a line.
    """
    named = {part: _lines(root / "lists" / f"{part}.txt") for part in ("train", "test")}
    class_names = tuple(sorted({line.split("/")[0] for lines in named.values() for line in lines}))
    parts = {}
    for part, lines in named.items():
        labels = tuple(
            class_names.index(_checked(line, root / "lists" / f"{part}.txt").split("/")[0]) for line in lines
        )
        parts[part] = Files(tuple(f"images/{line}" for line in lines), labels)
    return Listing(name="cub200", root=root, class_names=class_names, train=parts["train"], test=parts["test"])


def list_cub_2011(root: Path) -> Listing:
    """List Caltech-UCSD Birds 200 of 2011, by `images.txt`, `image_class_labels.txt` and `train_test_split.txt`.

    Each has an image's number and then its file, its class from 1, or 1 for training and 0 for test.

    Raises:
        CifartuiError: one of them cannot be read, or they do not fit each other.
    """
    files = _table(root / "images.txt")
    classes, is_train = _table(root / "image_class_labels.txt"), _table(root / "train_test_split.txt")
    if not files or files.keys() != classes.keys() or files.keys() != is_train.keys():
        raise CifartuiError(
            f"images.txt, image_class_labels.txt and train_test_split.txt in {root} do not name the same images; "
            "unpack the archive again."
        )
    folders = {classes[number]: _checked(files[number], root / "images.txt").split("/")[0] for number in files}
    class_names = tuple(folders[number] for number in sorted(folders, key=int))
    index = {number: place for place, number in enumerate(sorted(folders, key=int))}
    parts: dict[str, list[str]] = {"1": [], "0": []}
    for number in files:
        parts["1" if is_train[number] == "1" else "0"].append(number)
    train, test = (
        Files(tuple(f"images/{files[number]}" for number in part), tuple(index[classes[number]] for number in part))
        for part in (parts["1"], parts["0"])
    )
    return Listing(name="cub200", root=root, class_names=class_names, train=train, test=test)


_IMAGE_NAME = re.compile(r"[^/\0]+/[^/\0]+")


def _checked(name: str, source: Path) -> str:
    """Return a listed name if it is `folder/file` below the root."""
    if not _IMAGE_NAME.fullmatch(name) or name.startswith("..") or "/.." in name:
        raise CifartuiError(f'{source} names "{name[:80]}", which is not of the form class/file.jpg; unpack it again.')
    return name


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CifartuiError(f"{path} could not be read ({error}); unpack the archive again.") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise CifartuiError(f"{path} is empty; unpack the archive again.")
    return found


def _table(path: Path) -> dict[str, str]:
    """Return a file of lines "number value" as a dict."""
    rows = {}
    for line in _lines(path):
        number, _, value = line.partition(" ")
        if not number.isdigit() or not value:
            raise CifartuiError(f'{path} has a line that is not "number value"; unpack the archive again.')
        rows[number] = value
    return rows
