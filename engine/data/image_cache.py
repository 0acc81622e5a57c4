"""Disk cache of decoded images, memory-mapped.

A cache is a folder with `pixels` (uint8 [N, 3, S, S]) and `marks` (uint8 [N]: 0 not yet, 1 decoded, 2 cannot
be read). Its name is a hash of the files' names, sizes and times and of S, so a change makes another cache.
Pixels are flushed before their marks, so after a crash every marked image is whole.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from engine import files
from engine.data.image_formats import open_image
from engine.data.progress import LoadProgress, Report
from engine.journal.events import DataProgressed
from engine.shared.cache_folder import cache_folder, make_cache_folder
from presets.errors import CifartuiError

_VERSION = 1
_TODO, _DECODED, _BROKEN = 0, 1, 2
_NUM_THREADS = max(4, os.cpu_count() or 1)
"""Threads that decode: Pillow releases the interpreter lock meanwhile, so processes would gain nothing."""
_CHUNK = 256
_WAIT_S = 0.2


class ImageCache:
    """The images of one data set at one size. `pixels` and `is_broken` are for rows that were `decode`d."""

    def __init__(self, root: Path, names: Sequence[str], size: int) -> None:
        """Name the cache of the files `names` under `root`; nothing is read or written yet.

        Raises:
            CifartuiError: a file cannot be found.
        """
        self._root = root
        self._names = names
        self._size = size
        self._folder = cache_folder() / "images" / _key(root, names, size)
        self._shape = (len(names), 3, size, size)
        self._marks: np.memmap[Any, np.dtype[np.uint8]]

    def decode(self, rows: npt.NDArray[np.int64], report: Report) -> None:
        """Decode those images of `rows` that are not decoded yet.

        Args:
            rows: row numbers, int64 [M].
            report: called with progress; its exceptions propagate, and images decoded by then stay.

        Raises:
            CifartuiError: there is no room for the cache.
        """
        progress = LoadProgress(report, "decode", "images", str(self._root), len(rows))
        with self._alone(report):
            self._open()
            left = rows[self._marks[rows] == _TODO]
            progress.advance(len(rows) - len(left))
            if len(left):
                self._decode(left, progress)
                self._remove_outdated()
        progress.finish()

    def _open(self) -> None:
        """Make the files of the cache if they are absent. A cache without pixels has no marks."""
        try:
            if _allocate(self._folder / "pixels", int(np.prod(self._shape))):
                (self._folder / "marks").unlink(missing_ok=True)
            _allocate(self._folder / "marks", len(self._names))
        except OSError as error:
            raise CifartuiError(
                f"There is no room for the decoded images in {self._folder.parent} ({error.strerror}, "
                f"{np.prod(self._shape) / 1e9:.1f} GB are needed); free some, or name another folder in CIFARTUI_CACHE."
            ) from error
        self._marks = np.memmap(self._folder / "marks", np.uint8, "r+", shape=(len(self._names),))

    def _decode(self, rows: npt.NDArray[np.int64], progress: LoadProgress) -> None:
        pixels = np.memmap(self._folder / "pixels", np.uint8, "r+", shape=self._shape)

        def decode_row(row: int) -> int:
            try:
                pixels[row] = _read_image(self._root / self._names[row], self._size)
            except Exception:  # what Pillow's many readers raise on damaged bytes is open-ended
                return _BROKEN
            return _DECODED

        pool = ThreadPoolExecutor(_NUM_THREADS)
        try:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                marks = []
                for mark in pool.map(decode_row, chunk.tolist()):
                    marks.append(mark)
                    progress.advance(1)
                pixels.flush()
                self._marks[chunk] = marks
                self._marks.flush()
        finally:
            pool.shutdown(cancel_futures=True)

    def is_broken(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return true for each of `rows` whose file cannot be read: bool [M]."""
        broken: npt.NDArray[np.bool_] = np.asarray(self._marks[rows] == _BROKEN)
        return broken

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return all images, memory-mapped: uint8 [N, 3, S, S]; rows not decoded are black. Writing changes a copy."""
        return np.memmap(self._folder / "pixels", np.uint8, "c", shape=self._shape)

    @contextmanager
    def _alone(self, report: Report) -> Iterator[None]:
        """Hold the cache's lock; wait for it while another process decodes."""
        make_cache_folder(self._folder)
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    what = f"{self._root}, which another process does now"
                    report(DataProgressed(phase="decode", done=0, total=0, unit="images", what=what))
                    time.sleep(_WAIT_S)
            yield
        finally:
            os.close(fd)

    def _remove_outdated(self) -> None:
        """Remove caches of the same folder and size that are for earlier versions of its files."""
        about = {"root": str(self._root), "size": self._size}
        (self._folder / "about.json").write_text(json.dumps(about))
        for other in self._folder.parent.iterdir():
            with suppress(OSError, ValueError):
                if other != self._folder and json.loads(files.read(other / "about.json")) == about:
                    shutil.rmtree(other)


def _key(root: Path, names: Sequence[str], size: int) -> str:
    """Return a name that changes with the files, their order and the size."""
    digest = hashlib.blake2b(f"{_VERSION}\n{root}\n{size}\n".encode(), digest_size=12)
    for name in names:
        try:
            status = (root / name).stat()
        except OSError as error:
            raise CifartuiError(f"{root / name} is listed but cannot be found ({error.strerror}).") from error
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _allocate(path: Path, num_bytes: int) -> bool:
    """Make a file of zeros of a size, all of its blocks taken on the disk; return False if it is there already."""
    if path.exists() and path.stat().st_size == num_bytes:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(fd, 0, max(1, num_bytes))
        os.ftruncate(fd, num_bytes)
        temporary.replace(path)
        return True
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(fd)


def _read_image(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 [3, size, size]: shorter side resized, keeping its shape, and the middle cut out."""
    with open_image(path) as opened:
        image = opened.convert("RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return np.moveaxis(pixels, 2, 0)
