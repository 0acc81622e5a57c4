"""Disk cache of CIFAR's arrays, memory-mapped. No pickles, no file layouts.

Gunzip, tar and md5 of the archive take some seconds and twice the data in memory. What they gave is written once
into the cache folder, as numpy's own files, and memory-mapped from then on. A cache is a folder whose name is a hash
of the sources' paths, sizes, times and inodes, so a change makes another one. It is written under another name,
flushed, and renamed when it is whole.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine import files
from engine.shared.cache_folder import cache_folder

_VERSION = 2


class Rows(NamedTuple):
    """One of CIFAR's files. The arrays may be memory-mapped, and may not be written to.

    Attributes:
        images: uint8 [N, 3072].
        labels: int64 [N].
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


class Content(NamedTuple):
    """Content of the files; `md5` maps each file name to its md5 in hex."""

    train: Rows
    test: Rows
    class_names: tuple[str, ...]
    md5: dict[str, str]


class _About(msgspec.Struct, frozen=True):
    """Content besides the arrays. `sources` are paths, by which caches of changed files are found and removed."""

    sources: list[str]
    class_names: tuple[str, ...]
    md5: dict[str, str]


def cached(name: str, sources: Sequence[Path], read: Callable[[], Content]) -> Content:
    """Return the content that `read` makes of a data set's files `sources`, from the cache if they were read before.

    A cache that cannot be read is made again; if none can be written, `read` is called every time. Its exceptions
    propagate.
    """
    try:
        folder = cache_folder() / name / _key(sources)
    except OSError:  # the reader knows better what to say of files that are not there
        return read()
    with suppress(OSError, ValueError, EOFError, msgspec.MsgspecError):
        files.check_ours(folder.lstat(), folder)
        return _load(folder)
    content = read()
    with suppress(OSError):
        _keep(content, folder, [str(source) for source in sources])
    return content


def _key(sources: Sequence[Path]) -> str:
    digest = hashlib.blake2b(f"{_VERSION}\n".encode(), digest_size=12)
    for source in sources:
        status = source.stat()
        facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        line = f"{source.absolute()}\0{facts}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _load(folder: Path) -> Content:
    """Return the cached content.

    Raises:
        OSError, ValueError, EOFError, msgspec.MsgspecError: it is not there, or not whole.
    """
    about = msgspec.json.decode(files.read(folder / "about.json"), type=_About)
    train, test = _rows(folder, "train"), _rows(folder, "test")
    for rows in (train, test):
        if rows.images.ndim != 2 or rows.images.dtype != np.uint8 or rows.labels.shape != rows.images.shape[:1]:
            raise ValueError("another shape than was written")
    return Content(train, test, about.class_names, about.md5)


def _rows(folder: Path, name: str) -> Rows:
    images, labels = (
        np.load(folder / f"{name}-{what}.npy", mmap_mode="r", allow_pickle=False) for what in ("images", "labels")
    )
    return Rows(images, labels)


def _keep(content: Content, folder: Path, sources: list[str]) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True, mode=0o700)
    try:
        for name, rows in (("train", content.train), ("test", content.test)):
            _write(temporary / f"{name}-images.npy", partial(np.save, arr=rows.images, allow_pickle=False))
            _write(temporary / f"{name}-labels.npy", partial(np.save, arr=rows.labels, allow_pickle=False))
        about = msgspec.json.encode(_About(sources, content.class_names, content.md5))
        _write(temporary / "about.json", lambda file: file.write(about))
        shutil.rmtree(folder, ignore_errors=True)  # one that could not be read
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _remove_outdated(folder, sources)


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Make a private file, let `write` fill it, and flush it to the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        write(file)
        file.flush()
        os.fsync(fd)


def _remove_outdated(folder: Path, sources: list[str]) -> None:
    """Remove the caches of earlier versions of the same files."""
    for other in folder.parent.iterdir():
        with suppress(OSError, msgspec.MsgspecError):
            about = msgspec.json.decode(files.read(other / "about.json"), type=_About)
            if other != folder and about.sources == sources:
                shutil.rmtree(other)
