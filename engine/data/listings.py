"""Which image files a data set consists of, and what is in them: by class folders, or by CUB-200's lists.

Looks at names and lists only; decodes nothing. File names are relative to the listing's root.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


@dataclass(frozen=True)
class Files:
    """Image files, relative to their listing's root, and their class indices; sorted by class and name."""

    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)


@dataclass(frozen=True)
class Listing:
    """The files of a data set. `val` is empty where the data set has no such part."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    train: Files
    val: Files
    test: Files


def list_class_folders(root: Path, name: str = "class-folders") -> Listing:
    """List `train/<class>/*`, `test/<class>/*` and, where it is there, `val/<class>/*`.

    Raises:
        CifartuiError: a folder cannot be read, train/ or test/ has no images, or a class is not in train/.
    """
    try:
        class_names = tuple(sorted(folder.name for folder in _folders(root / "train")))
        train, val, test = (_files_by_class(root, part, class_names) for part in ("train", "val", "test"))
    except OSError as error:
        raise CifartuiError(f"{error.filename} could not be read: {error.strerror}.") from error
    for part, files in (("train", train), ("test", test)):
        if not files:
            raise CifartuiError(f"{root} has no images in {part}/<class>/; put some there or name another data.path.")
    return Listing(name, root, tuple(map(visible_in_a_row, class_names)), train, val, test)


def _folders(place: Path) -> list[Path]:
    return [child for child in place.iterdir() if child.is_dir() and not child.name.startswith(".")]


def _files_by_class(root: Path, part: str, class_names: tuple[str, ...]) -> Files:
    place = root / part
    if not place.is_dir():
        return Files()
    names: list[str] = []
    labels: list[int] = []
    for folder in sorted(_folders(place)):
        found = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        if folder.name not in class_names:
            raise CifartuiError(f"{folder} is a class that train/ does not have; add it there or remove it here.")
        names += [f"{part}/{folder.name}/{file}" for file in found]
        labels += [class_names.index(folder.name)] * len(found)
    return Files(tuple(names), tuple(labels))


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
    return Listing("cub200", root, class_names, parts["train"], Files(), parts["test"])


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
    return Listing("cub200", root, class_names, train, Files(), test)


_IMAGE_NAME = re.compile(r"[^/\0]+/[^/\0]+")


def _checked(name: str, source: Path) -> str:
    """Return a listed name if it is `folder/file` and stays where it belongs."""
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
