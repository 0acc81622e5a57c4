"""Tables of image files and labels (CSV, TSV), and the listing that they make of a folder. No torch, no decoding."""

import csv
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from engine import files
from engine.shared.image_parts import (
    PARTS,
    Files,
    Listing,
    Part,
    alike,
    listed,
    short,
    shown_names,
    unread_notices,
    without_images,
)
from engine.shared.image_scan import OPTIONAL_SUFFIXES, Poll, Scanner, folder_of, shown, suffix_of
from engine.shared.image_scan import SUFFIXES as IMAGE_SUFFIXES
from presets.errors import CifartuiError

SUFFIXES = frozenset({".csv", ".tsv"})
_FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_name", "imagename", "image_path",
    "img", "img_name", "image_id", "imageid", "id",
)  # fmt: skip
"""Names of the column of file names, in any case; the first of them that is there is taken."""
_LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "classname", "category", "category_name", "target", "species", "breed",
    "diagnosis", "y",
)  # fmt: skip
_SPLIT_COLUMNS = ("split", "set", "subset", "part", "partition")
_SEP = re.compile(r'"?sep=([,;\t|])"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_MOST_BYTES = 1_000_000_000
_HEADER_BYTES = 100_000
"""Bytes in which a first line is looked for."""
_EXPECTED = "a column file (or filename, image, path, id) and a column label (or class, category)"


class _Row(NamedTuple):
    line: int
    file: str
    label: str
    split: str


class _Table(NamedTuple):
    where: str
    columns: str
    """The columns taken, in words."""
    has_split: bool
    rows: list[_Row]


def list_table(root: Path, table: str, name: str, poll: Poll) -> Listing:
    """List the images of a folder by a table of file names and labels.

    The file is named as below the folder or without its folders, with or without its extension. Parts are those of a
    column `split`, else of the folders `train/`, `val/` and `test/` if the table names files of two of them. Images
    in `test/` that the table does not name, and rows of the test part without a label, are a test part without labels.
    Folders around all of the images do not count.

    Args:
        root: the folder.
        table: path of the table, relative to the folder or absolute.
        name: of the data set.
        poll: called before each folder is read; its exceptions end the listing.

    Raises:
        CifartuiError: the table cannot be read, has no such columns, contradicts itself, or names no file that is
            there; or there are fewer than two classes.
    """
    found = _read(root / table)
    scan = Scanner(root, poll, root / table)
    images = [image for _, image in scan.below([(0, "")])]
    wrapper = _wrapper(images)
    parts, written, absent = _by_part(found, _Names(images), wrapper)
    if not any(parts.values()):
        first = f", {short(absent[0])} first" if absent else ""
        raise CifartuiError(
            f"{found.where} names no image that is in {shown(str(root))}{first}; name the folder that holds them with "
            "--data (data.path in a preset)."
        )
    named = {image for rows in parts.values() for image in rows}
    extra = [image for image in images if image not in named]
    unlabelled = [image for image, label in parts["test"].items() if not label]
    if not parts["test"]:
        unlabelled = [image for image in extra if _part_of(image, wrapper) == "test"]
        extra = [image for image in extra if _part_of(image, wrapper) != "test"]
    unread_tests = sorted(image for image in scan.unread_images if _part_of(image, wrapper) == "test")
    return _listing(
        scan, found, name, parts, written, (unlabelled, unread_tests), _notices(found, parts, absent, extra)
    )


def count_labels(root: Path, table: str) -> int:
    """Return the number of labels in a table, without looking for its files.

    Raises:
        CifartuiError: as `list_table`.
    """
    return len({row.label for row in _read(root / table).rows if row.label})


def has_columns(path: Path) -> bool:
    """Return true if a table's first line names the columns that a listing needs; false if it cannot be read."""
    try:
        with os.fdopen(files.open_to_read(path), "rb") as opened:
            text = _decoded(opened.read(_HEADER_BYTES), "")
        named, text = _named_delimiter(text)
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=named or _delimiter(text, path)), [])
    except (OSError, CifartuiError, csv.Error):
        return False
    columns = [column.strip() for column in first]
    return all(_column(columns, names) is not None for names in (_FILE_COLUMNS, _LABEL_COLUMNS))


# --- the table -------------------------------------------------------------------------------------


def _read(path: Path) -> _Table:
    where = shown(str(path))
    try:
        with os.fdopen(files.open_to_read(path), "rb") as opened:
            content = opened.read(_MOST_BYTES)
    except OSError as error:
        raise CifartuiError(f"{where} cannot be read ({error.strerror}); name a table in data.labels.") from error
    text = _decoded(content, where)
    named, text = _named_delimiter(text)
    delimiter = named or _delimiter(text, path)
    before = 1 if named else 0
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        if '"' in text:
            _check_quotes(text, delimiter, before)
    except csv.Error as error:
        raise CifartuiError(f"{where} is no table that can be read ({error}).") from error
    columns = [column.strip() for column in lines[0]] if lines else []
    file, label, split = (_column(columns, names) for names in (_FILE_COLUMNS, _LABEL_COLUMNS, _SPLIT_COLUMNS))
    if (file is None or label is None) and len(columns) == 1 and "|" in columns[0]:
        raise CifartuiError(
            f"{where} has one column, {short(columns[0])}; known separators are commas, semicolons and tabs: use one "
            "of them, or name another one in a first line sep=|."
        )
    if file is None or label is None:
        raise CifartuiError(
            f"{where} {f'has the columns {listed(columns)}' if columns else 'is empty'}, and needs {_EXPECTED} in "
            "its first line."
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2 + before):
        if any(field.strip() for field in line):
            values = [line[at].strip() if at is not None and at < len(line) else "" for at in (file, label, split)]
            rows.append(_Row(number, *values))
    taken = [f"files by column {short(columns[file])}", f"labels by column {short(columns[label])}"]
    taken += [f"parts by column {short(columns[split])}"] if split is not None else []
    return _Table(where, listed(taken), split is not None, rows)


def _decoded(content: bytes, where: str) -> str:
    """Return a table's text, of UTF-8 or UTF-16 with or without a byte order mark; bytes of others are kept.

    Raises:
        CifartuiError: it has zero bytes, as no text has.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding == "utf-8-sig" and b"\0" in content[:2]:  # the first character is a letter, so half of it is zero
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    text = content.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    if "\0" in text:
        raise CifartuiError(f"{where} has zero bytes, as no text has; save the table as CSV in UTF-8.")
    return text


def _named_delimiter(text: str) -> tuple[str, str]:
    """Return the delimiter that a line before the columns names, as Excel writes it (`sep=;`), and what follows it."""
    found = _SEP.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def _delimiter(text: str, path: Path) -> str:
    """Return the delimiter of a table that names none: the commonest in its first line, of a .tsv the tab."""
    return "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=text.split("\n", 1)[0].count)


def _check_quotes(text: str, delimiter: str, before: int) -> None:
    """Raise csv.Error if a quote is not closed: all that follows it would be part of one field."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    began = 1
    try:
        for _ in reader:
            began = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise csv.Error(f"the quote that begins in line {began + before} is not closed") from error


def _column(columns: list[str], names: Iterable[str]) -> int | None:
    lower = [column.lower().replace(" ", "_") for column in columns]
    return next((lower.index(name) for name in names if name in lower), None)


class _Names:
    """Images by the names that a table may give them."""

    def __init__(self, images: list[str]) -> None:
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._last: dict[str, list[str]] = defaultdict(list)
        for image in images:
            name = unicodedata.normalize("NFC", image)
            for index, key in ((self._whole, name), (self._last, name.rpartition("/")[2])):
                index[key].append(image)
                index[_stem(key)].append(image)

    def find(self, named: str) -> list[str]:
        """Return the images that a name may mean: none, one, or several where it is not clear.

        A name and an image that both have folders agree in all that the shorter of them has.
        """
        name = unicodedata.normalize("NFC", _with_slashes(named))
        for index, key in ((self._whole, name), (self._last, name.rpartition("/")[2])):
            found = index.get(key) or (index.get(_stem(key)) if _may_be_renamed(key) else None) or []
            if fitting := [image for image in found if _same_place(image, name)]:
                exact = [image for image in fitting if unicodedata.normalize("NFC", image).endswith(key)]
                return exact or fitting
        return []


def _with_slashes(name: str) -> str:
    """Return the name of a file in a table, perhaps of Windows, in the form of this system."""
    return name.replace("\\", "/").removeprefix("./")


def _stem(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.rpartition('.')[0] or last}"


def _may_be_renamed(name: str) -> bool:
    """Return true if a name ends like an image's, which may be there in another format."""
    suffix = suffix_of(name)
    return suffix in IMAGE_SUFFIXES or suffix in OPTIONAL_SUFFIXES


def _same_place(image: str, named: str) -> bool:
    """Return true if the folders of one are the last folders of the other."""
    ours, theirs = (folder_of(unicodedata.normalize("NFC", name)).strip("/") for name in (image, named))
    return not ours or not theirs or f"/{ours}".endswith(f"/{theirs}") or f"/{theirs}".endswith(f"/{ours}")


def _by_part(
    table: _Table, names: _Names, wrapper: str
) -> tuple[dict[Part, dict[str, str]], dict[str, str], list[str]]:
    """Return images and labels by part, the images' names in the table, and the files that are not there.

    Raises:
        CifartuiError: a name may mean several images, an image has two labels, or a part is unknown.
    """
    parts: dict[Part, dict[str, str]] = {"train": {}, "val": {}, "test": {}}
    seen: dict[str, tuple[str, str, int]] = {}
    written: dict[str, str] = {}
    absent = []
    for row in table.rows:
        if not row.file:
            continue
        found = names.find(row.file)
        if not found:
            absent.append(row.file)
            continue
        where = f"{table.where}, line {row.line}"
        if len(found) > 1:
            raise CifartuiError(
                f"{where}: {short(row.file)} may mean {short(found[0])} or {short(found[1])}; write the folder too."
            )
        label = unicodedata.normalize("NFC", row.label)
        if found[0] in seen:
            other, split, line = seen[found[0]]
            if (other, split) != (label, row.split):
                raise CifartuiError(
                    f"{where}: {short(row.file)} {_labelled(label, row.split)}, and {_labelled(other, split)} in line "
                    f"{line}; an image has one label and is in one part: take one of the lines out."
                )
            continue
        seen[found[0]] = (label, row.split, row.line)
        written[found[0]] = _with_slashes(row.file)
        part = _named_part(row.split, where) if table.has_split else "train"
        parts[part][found[0]] = label
    part_of = {image: _part_of(image, wrapper) for image in parts["train"]}
    by_folder = set(part_of.values())
    if not table.has_split and len(by_folder & {"train", "val", "test"}) > 1 and None not in by_folder:
        labels = parts["train"]
        parts = {part: {image: labels[image] for image in labels if part_of[image] == part} for part in parts}
    return parts, written, absent


def _labelled(label: str, split: str) -> str:
    """Return what a row says of its file."""
    said = f"is {short(label)}" if label else "has no label"
    return f"{said} in {short(split)}" if split else said


def _named_part(split: str, where: str) -> Part:
    part = PARTS.get(split.lower() or "train")
    if part is None:
        raise CifartuiError(f"{where}: the part is {short(split)}; known are train, val and test.")
    return part


def _wrapper(images: list[str]) -> str:
    """Return the folders that all images are in, up to one that is named for a part; with a slash behind, or ""."""
    folders = [folder_of(image) for image in images]
    shared = os.path.commonpath(folders).split("/") if folders and all(folders) else []
    return "".join(
        f"{folder}/" for folder in takewhile(lambda folder: folder.lower() not in PARTS, filter(None, shared))
    )


def _part_of(image: str, wrapper: str) -> Part | None:
    """Return the part that an image's first folder below `wrapper` is named for."""
    first, slash, _ = image.removeprefix(wrapper).partition("/")
    return PARTS.get(first.lower()) if slash else None


# --- the listing -----------------------------------------------------------------------------------


def _listing(
    scan: Scanner, table: _Table, name: str, parts: dict[Part, dict[str, str]], written: dict[str, str],
    without_labels: tuple[list[str], list[str]], notices: list[str],
) -> Listing:  # fmt: skip
    """Return the listing; `without_labels` are the test images without labels, those that are read and the others."""
    unlabelled, unlabelled_unread = without_labels
    names = _sorted_labels({label for label in parts["train"].values() if label})
    if len(names) < 2:
        has = f"one label only, {short(names[0])}," if names else "no label"
        raise CifartuiError(f"{table.where} has {has} for training images; a classifier needs two classes.")
    place = {label: index for index, label in enumerate(names)}
    for part in ("val", "test"):
        unknown = _sorted_labels({label for label in parts[part].values() if label and label not in place})
        if unknown:
            same = next((name for name in names if name.casefold() == unknown[0].casefold()), None)
            advice = "mend the table or its column of parts"
            if same is not None:
                advice = f"there {short(unknown[0])} is {short(same)}: give both one name"
            raise CifartuiError(
                f"{table.where} has labels in its {part} part that no training image has: {listed(unknown)}; {advice}."
            )
    of: dict[Part, Files] = {}
    for part, rows in parts.items():
        ordered = sorted((place[label], image) for image, label in rows.items() if label)
        of[part] = Files(tuple(image for _, image in ordered), tuple(label for label, _ in ordered))
    if of["test"]:
        unlabelled = []
    missing = [] if of["val"] else ["no validation part"]
    missing += [] if of["test"] else ["a test part without labels" if unlabelled else "no test part"]
    class_names = shown_names(names)
    said = [without_images(of[part].labels, class_names, part) for part in ("val", "test") if of[part]]
    return Listing(
        name=name,
        root=scan.root,
        layout=f"{table.where}: {table.columns}{'; ' if missing else ''}{', '.join(missing)}.",
        class_names=class_names,
        train=of["train"],
        val=of["val"],
        test=of["test"],
        known_as=written,
        unlabelled=tuple(sorted(unlabelled)),
        unlabelled_unread=tuple(unlabelled_unread) if unlabelled else (),
        unread=scan.unread,
        notices=(
            f"{table.where} is read: {table.columns}.",
            *notices,
            *filter(None, said),
            *unread_notices(scan.unread),
        ),
    )


def _sorted_labels(labels: set[str]) -> list[str]:
    """Return labels in order: by number if all of them are whole numbers, else by name."""
    if all(_WHOLE_NUMBER.fullmatch(label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _is_unicode(text: str) -> bool:
    """Return false for text with bytes that are no UTF-8 (`_decoded` keeps them as surrogates)."""
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


def _notices(
    table: _Table, parts: dict[Part, dict[str, str]], absent: list[str], extra: list[str]
) -> list[str]:  # fmt: skip
    without = Counter(part for part, rows in parts.items() for label in rows.values() if not label)
    labelled_test = any(parts["test"].values())
    num_without = without["train"] + without["val"] + (without["test"] if labelled_test else 0)
    notices = []
    foreign = sorted({label for rows in parts.values() for label in rows.values() if not _is_unicode(label)})
    if foreign:
        notices.append(
            f"{table.where} is not in UTF-8, so letters are shown by their bytes in {listed(foreign)}; "
            "save the table as CSV in UTF-8."
        )
    notices += alike(_sorted_labels({label for label in parts["train"].values() if label}), table.where)
    if nameless := [row.line for row in table.rows if not row.file]:
        is_one = len(nameless) == 1
        rows, first, are = ("a row", "", "is") if is_one else (f"{len(nameless):,} rows", " first", "are")
        notices.append(
            f"{table.where} has {rows} without a file name (line {nameless[0]}{first}), which {are} left out."
        )
    if absent:
        files_are = "names a file that is" if len(absent) == 1 else f"names {len(absent):,} files that are"
        is_left = "is" if len(absent) == 1 else "are"
        notices.append(f"{table.where} {files_are} not among the images, and {is_left} left out: {listed(absent)}.")
    if num_without:
        have, are = ("image has", "is") if num_without == 1 else ("images have", "are")
        notices.append(f"{num_without:,} {have} no label in {table.where}, and {are} left out.")
    if extra:
        first = f", {short(extra[0])} first" if len(extra) > 1 else f": {short(extra[0])}"
        image, are = ("image", "is") if len(extra) == 1 else ("images", "are")
        notices.append(f"{len(extra):,} {image} {are} not in {table.where}, and {are} left out{first}.")
    return notices
