"""Data named by a path (`--data PATH`): its data set, as overrides of a preset. No torch, no decoding."""

import json
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from msgspec import Struct

from engine.shared import label_table
from engine.shared.data_locations import CIFAR100_ARCHIVE, COURSE_ARCHIVE, MEMBER_MD5, locate
from engine.shared.image_archives import check_archive, is_archive
from engine.shared.image_listing import list_images
from engine.shared.image_scan import Poll
from presets.checks import CONTROL
from presets.config_layers import override_layers
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Data

_MEMBERS_LOOKED_AT = 4
"""Members of a .tar.gz that are looked at: CIFAR-100's folder and its three files, in some order."""


class NamedData(Struct, frozen=True):
    """A data set that a path names: its name in presets, and the absolute path."""

    dataset: Literal["cifar100", "cub200", "class-folders"]
    path: str

    @property
    def overrides(self) -> tuple[str, str]:
        """The two overrides that make it a preset's data."""
        return f"data.dataset={self.dataset}", f"data.path={json.dumps(self.path, ensure_ascii=False)}"


def data_at(named: str, poll: Poll = lambda: None, labels: str | None = None) -> NamedData:
    """Return the data set at a path, which may begin with ~ or be relative to the current folder.

    CIFAR-100 (archive, folder, or the folder that holds one) and the forms of CUB-200 are known by their files;
    everything else is a folder of images, which is listed, or an archive of one, which a run unpacks.

    Args:
        named: the path.
        poll: called before each folder is read; its exceptions end the listing.
        labels: a table of files and labels (`data.labels`).

    Raises:
        CifartuiError: there is nothing, nobody may read it, or it holds no images in a layout that is read.
    """
    path = resolved(named)
    known = known_data(path)
    if known is not None:
        return known
    if is_archive(path):
        check_archive(path)
    else:
        list_images(path, labels, poll=poll)
    return NamedData("class-folders", str(path))


def resolved(named: str) -> Path:
    """Return a path from the root, of something that is there and can be read.

    Raises:
        CifartuiError: it cannot, or has a name that no preset can hold.
    """
    path = Path(os.path.expanduser(named)).absolute()  # noqa: PTH111 (Path.expanduser raises where there is no home)
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


def known_data(path: Path) -> NamedData | None:
    """Return CIFAR-100 or CUB-200 if they lie at a path; None for a folder, an archive or a table of images.

    Raises:
        CifartuiError: it is a file of something else.
    """
    is_folder = path.is_dir()
    if is_folder or _is_cifar100_archive(path):
        if locate(Data(dataset="cifar100", path=str(path)), None).kind != "absent":
            return NamedData("cifar100", str(path))
        if locate(Data(dataset="cub200", path=str(path)), None).kind.startswith("cub-"):
            return NamedData("cub200", str(path))
    if not (is_folder or path.suffix.lower() in label_table.SUFFIXES or is_archive(path)):
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
    return (*data_at(named, labels=labels if isinstance(labels, str) else None).overrides, *overrides)


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


def _is_cifar100_archive(path: Path) -> bool:
    """Return whether a file is CIFAR-100's archive, by its name or else by its first members."""
    if path.name in {CIFAR100_ARCHIVE, COURSE_ARCHIVE}:
        return True
    if not path.name.endswith((".tar.gz", ".tgz")):
        return False
    try:
        with tarfile.open(path) as archive:
            members = [archive.next() for _ in range(_MEMBERS_LOOKED_AT)]
    except (OSError, EOFError, tarfile.TarError):
        return False
    files = [PurePosixPath(member.name).name for member in members if member is not None and member.isfile()]
    return any(name in MEMBER_MD5 for name in files)
