"""Data named by a path (`--data PATH`): its data set, as overrides of a preset. No torch, no decoding."""

import gzip
import json
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from msgspec import Struct, structs

from engine import files
from engine.shared import label_table
from engine.shared.data_locations import (
    CIFAR10_ARCHIVE,
    CIFAR10_BATCHES,
    CIFAR100_ARCHIVE,
    COURSE_ARCHIVE,
    MEMBER_MD5,
    Location,
    idx_files,
    incomplete,
    incomplete_birds,
    locate,
    published_in,
)
from engine.shared.image_archives import (
    OnBytes,
    TarMember,
    check_archive,
    is_archive,
    kind_inside,
    say_nothing,
    unpacked_before,
)
from engine.shared.image_listing import list_images
from engine.shared.image_parts import Listing
from engine.shared.image_scan import Poll
from engine.shared.mixed_data import mixed_data
from presets.checks import CONTROL
from presets.config_layers import override_layers
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Data, DatasetName

_PUBLISHED: tuple[DatasetName, ...] = (
    "cifar100", "cifar10", "mnist", "fashion-mnist", "flowers102", "oxford-pets", "cub200",
)  # fmt: skip
"""Data sets that are known by their files."""
_FIRST_LABELS: dict[bytes, DatasetName] = {
    bytes((7, 2, 1, 0, 4, 1, 4, 9, 5, 9)): "mnist",
    bytes((9, 2, 1, 1, 6, 1, 4, 6, 5, 7)): "fashion-mnist",
}
"""Data sets by the labels of their first published test images."""
_NUM_FIRST = 10
_LEVELS_ABOVE = 2
"""Folders above the one of MNIST's files whose names are looked at: FashionMNIST/raw, fashion-mnist/data/raw."""
_MEMBERS_LOOKED_AT = 4
"""Members of a .tar.gz that are looked at: CIFAR-100's folder and its three files, in some order."""


class NamedData(Struct, frozen=True):
    """A data set that a path names: its name in presets, and the absolute path."""

    dataset: DatasetName
    path: str

    @property
    def overrides(self) -> tuple[str, str]:
        """The two overrides that make it a preset's data."""
        return f"data.dataset={self.dataset}", f"data.path={json.dumps(self.path, ensure_ascii=False)}"


def data_at(
    named: str,
    poll: Poll = lambda: None,
    labels: str | None = None,
    dataset: object = None,
) -> NamedData:
    """Return the data set at a path, which may begin with ~ or be relative to the current folder.

    CIFAR-100 (archive, folder, or the folder that holds one) and the forms of CUB-200 are known by their files;
    everything else is a folder of images, which is listed, or an archive of one, which a run unpacks, and which is
    listed if that was done before.

    Args:
        named: the path.
        poll: called before each folder is read; its exceptions end the listing.
        labels: a table of files and labels (`data.labels`).
        dataset: the data set that is asked for by name, which is taken if it is there, whatever lies beside it.

    Raises:
        CifartuiError: there is nothing, nobody may read it, it holds no images in a layout that is read, or a published
            data set and other data.
    """
    path = resolved(named)
    known = known_data(path, poll, dataset if labels is None else "class-folders")
    if known is not None:
        return known
    if is_archive(path):
        check_archive(path)
    if not is_archive(path) or unpacked_before(path) is not None:
        listing_at(path, labels, poll=poll)
    return NamedData("class-folders", str(path))


def listing_at(
    path: Path, labels: str | None = None, *, poll: Poll = lambda: None, on_bytes: OnBytes = say_nothing
) -> Listing:
    """List the folder or archive of images at a path; arguments as for `list_images`.

    Raises:
        CifartuiError: as there; of a folder with some files of a published data set, those that are missing.
    """
    try:
        listing = list_images(path, labels, poll=poll, on_bytes=on_bytes)
    except CifartuiError as error:
        if path.is_dir() and (sentence := _incomplete_set(path)):
            raise CifartuiError(sentence) from error
        raise
    if labels is None and path.is_dir() and (birds := incomplete_birds(path)) is not None:
        images = birds.folder / "images"
        if any((listing.root / name).is_relative_to(images) for name in listing.train.names):
            raise CifartuiError(
                f"{printable(birds.sentence).rstrip('.')}, or name {printable(str(images))}, whose class folders are "
                "then divided anew."
            )
    return listing


def _incomplete_set(path: Path) -> str:
    """Return which published data set a folder looks like, and what is missing; empty if it looks like none."""
    for name in _PUBLISHED:
        if (found := incomplete(name, path)) is not None:
            if name == "mnist" and idx_set(found.folder) == "fashion-mnist":
                continue
            return printable(found.sentence)
    return ""


def resolved(named: str) -> Path:
    """Return a path from the root, of something that is there and can be read.

    Raises:
        CifartuiError: it cannot, or has a name that no preset can hold.
    """
    if not named.strip():
        raise CifartuiError("The path of the data is empty; name a folder of images, or . for this folder.")
    path = files.expanded(named).absolute()
    shown = printable(str(path))
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte
        raise CifartuiError(f"{shown} does not exist; name a folder of images.") from None
    except OSError as error:
        raise CifartuiError(f"{shown} cannot be read ({error.strerror}); check its name and permissions.") from None
    if CONTROL.search(str(path)):
        raise CifartuiError(f"{shown} has characters in its name that a preset cannot hold; rename it.")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise CifartuiError(f"{shown} is neither a folder nor a file; name a folder of images.")
    if not os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
        raise CifartuiError(f"{shown} cannot be read (Permission denied); check its permissions.")
    return path


def known_data(path: Path, poll: Poll = lambda: None, dataset: object = None) -> NamedData | None:
    """Return the published data set that lies at a path; None for a folder, an archive or a table of images.

    Args:
        path: the path.
        poll: called before each folder is read.
        dataset: the data set that is asked for by name, if any.

    Raises:
        CifartuiError: it is a file of something else; or a folder with a published data set and other data, and none
            of them is asked for.
    """
    is_folder = path.is_dir()
    if not is_folder and (archived := _archived_cifar(path)) is not None:
        return NamedData(archived, str(path))
    if is_folder and (sets := published_in(path)):
        asked = next((name for name in _PUBLISHED if name == dataset), None)
        if asked is not None and _holds(path, asked):
            return NamedData(asked, str(path))
        sets = [structs.replace(each, dataset=_kind_of(each)) for each in sets]
        if not (mixed := mixed_data(path, sets, poll)):
            return NamedData(_kind_of(sets[0]), str(path))
        if dataset != "class-folders":
            raise CifartuiError(mixed)
    if not (is_folder or path.suffix.lower() in label_table.SUFFIXES or is_archive(path)):
        if (kind := kind_inside(path)) is not None:
            raise CifartuiError(
                f"{printable(str(path))} is a {kind} archive inside, and not named like one; rename it to "
                f"{printable(path.name)}.{kind}."
            )
        raise CifartuiError(
            f"{printable(str(path))} is a file, and no archive (zip, tar) or table (csv, tsv); name a folder of images."
        )
    return None


def with_data(named: str | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return overrides with those of the data at `named` (None: as they are) before them.

    Raises:
        CifartuiError: see `data_at`; or an override names a path of data too.
    """
    if named is None:
        return tuple(overrides)
    if (other := path_override(overrides)) is not None:
        raise CifartuiError(
            f"--data {printable(named, 80)} and --set {printable(other, 80)} both name the data; leave one out."
        )
    labels = _override_of("labels", overrides)[1]
    dataset = dataset_override(overrides)
    return (*data_at(named, labels=labels if isinstance(labels, str) else None, dataset=dataset).overrides, *overrides)


def dataset_override(overrides: Sequence[str]) -> object:
    """Return the data set that overrides ask for by name; None if none does."""
    return _override_of("dataset", overrides)[1]


def path_override(overrides: Sequence[str]) -> str | None:
    """Return the override that names a path of data; None if none does."""
    return _override_of("path", overrides)[0]


def _override_of(key: str, overrides: Sequence[str]) -> tuple[str | None, object]:
    """Return the override that gives a key of [data], and its value; None and None if none does."""
    for override, layer in zip(overrides, override_layers(overrides), strict=True):
        table = layer.table.get("data")
        if isinstance(table, dict) and key in table:
            return override, table[key]
    return None, None


def _holds(path: Path, dataset: DatasetName) -> bool:
    """Return true if a published data set lies in a folder; false for MNIST's files if they are of the other one."""
    found = locate(Data(dataset=dataset, path=str(path)), None)
    if found.path is None or found.kind == "class-folders":
        return False
    return found.kind != "idx-folder" or idx_set(Path(found.path)) in {None, dataset}


def _kind_of(found: Location) -> DatasetName:
    """Return the data set found, by its name in presets; MNIST where nothing tells it from Fashion-MNIST."""
    if found.kind == "idx-folder" and found.path is not None:
        return idx_set(Path(found.path)) or "mnist"
    return next(name for name in _PUBLISHED if name == found.dataset)


def idx_set(folder: Path) -> DatasetName | None:
    """Return MNIST or Fashion-MNIST, by the first test labels in a folder, else by its name or those above it.

    None if neither tells.
    """
    if (labels := idx_files(folder).get("t10k-labels")) is not None:
        try:
            with gzip.open(labels) if labels.suffix == ".gz" else labels.open("rb") as file:
                if (told := _FIRST_LABELS.get(file.read(8 + _NUM_FIRST)[8:])) is not None:
                    return told
        except (OSError, EOFError, zlib.error):  # the reader says what is wrong with it
            pass
    for named in (folder, *folder.parents[:_LEVELS_ABOVE]):
        name = re.sub(r"[-_ .]", "", named.name.lower())
        if "fashionmnist" in name:
            return "fashion-mnist"
        if name == "mnist":
            return "mnist"
    return None


def taken_for_mnist(folder: Path) -> tuple[str, ...]:
    """Return what to say where a folder is read as MNIST and may be Fashion-MNIST; nothing where it is clear."""
    if idx_set(folder) is not None:
        return ()
    return (
        f"Neither the names of {printable(str(folder))} and the folders above it nor its first labels tell MNIST from "
        "Fashion-MNIST: it is read as MNIST; if it is the other, add --set data.dataset=fashion-mnist.",
    )


def _archived_cifar(path: Path) -> Literal["cifar100", "cifar10"] | None:
    """Return which CIFAR's archive a file is, by its name or else by its first members."""
    if path.name in {CIFAR100_ARCHIVE, COURSE_ARCHIVE}:
        return "cifar100"
    if path.name == CIFAR10_ARCHIVE:
        return "cifar10"
    if not path.name.endswith((".tar.gz", ".tgz")):
        return None
    try:
        with tarfile.open(path, tarinfo=TarMember) as archive:
            members = [archive.next() for _ in range(_MEMBERS_LOOKED_AT)]
    except (OSError, EOFError, tarfile.TarError):
        return None
    files = {PurePosixPath(member.name).name for member in members if member is not None and member.isfile()}
    if files & {*CIFAR10_BATCHES, "batches.meta"}:
        return "cifar10"
    return "cifar100" if files & MEMBER_MD5.keys() else None
