"""Disk cache of decoded images, memory-mapped.

A cache is a folder with `pixels` (uint8 [N, 3, S, S]) and `marks` (uint8 [N]: 0 not yet, 1 decoded,
64 decoded by its own range of samples, else a `Fault`).
Its name is a hash of what the pixels depend on: the version of the decoding, S, the background, and of every file its
name, size, times and inode. So a change makes another cache, and those of an earlier version are not used.
Pixels are flushed before their marks, so after a crash every marked image is whole.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import files
from engine.data import image_decoders
from engine.data.image_decoders import BY_OWN_RANGE, DECODED, Answer, Job
from engine.data.image_pixels import WHITE, Colour
from engine.data.progress import LoadProgress, Report
from engine.journal.events import DataProgressed
from engine.shared.cache_folder import cache_folder, make_cache_folder
from engine.shared.image_formats import Fault
from presets.errors import CifartuiError

_VERSION = 3
"""Of the pixels that a file decodes to.

2 turns images upright, scales 16 bits, lays transparency over a colour. 3 clips floating-point samples above white, and
scales 12 bits in 16 with transparency.
"""
_TODO = 0
_KEEP_S = 1.0
"""Seconds of decoding that a crash may lose: pixels and then their marks are flushed so often."""
_WAIT_S = 0.2
_KNOWN = [_TODO, DECODED, BY_OWN_RANGE, *Fault]
"""Marks that an image can have; another one is of a damaged file."""
_AGAIN = [_TODO, *(fault for fault in Fault if not fault.is_of_the_file)]
"""Marks of images that are decoded at the next start."""


class ImageCache:
    """The images of one data set at one size. `pixels`, `is_broken` and `faults` are for rows that were `decode`d.

    `sizes` are those of the files in bytes, int64 [N], as they were when the cache was named.
    """

    def __init__(self, root: Path, names: Sequence[str], size: int, background: Colour = WHITE) -> None:
        """Name the cache of the files `names` under `root`; nothing but their status is read yet.

        Args:
            root: folder that `names` are relative to.
            names: one an image, in the order of the rows.
            size: S, in pixels.
            background: red, green and blue of what shows through transparent pixels.
        """
        self._root = root
        self._names = names
        self._size = size
        self._about = {"version": _VERSION, "root": str(root), "size": size, "background": list(background)}
        key, self.sizes = _key_and_sizes(self._about, names)
        self._folder = cache_folder() / "images" / key
        self._job = Job(root, names, self._folder / "pixels", size, background)
        self._shape = (len(names), 3, size, size)
        self._marks: np.memmap[Any, np.dtype[np.uint8]]
        self._pixels: np.memmap[Any, np.dtype[np.uint8]]

    def decode(self, rows: npt.NDArray[np.int64], report: Report) -> None:
        """Decode those images of `rows` that are not decoded yet, and try those again that may be readable now.

        Args:
            rows: row numbers, int64 [M].
            report: called with progress; its exceptions propagate, and images decoded by then stay.

        Raises:
            CifartuiError: there is no room for the cache, or a process that decodes was ended.
        """
        progress = LoadProgress(report, "decode", "images", str(self._root), len(rows))
        with self._alone(report):
            self._open()
            left = rows[np.isin(self._marks[rows], _AGAIN)]
            progress.advance(len(rows) - len(left))
            if len(left):
                self._decode(left.tolist(), progress)
                self._remove_outdated()
            self._pixels = np.memmap(self._folder / "pixels", np.uint8, "c", shape=self._shape)
        progress.finish()

    def _open(self) -> None:
        """Make the files of the cache if they are absent. A cache without pixels has no marks."""
        about, marks = self._folder / "about.json", self._folder / "marks"
        try:
            if _allocate(self._folder / "pixels", int(np.prod(self._shape))):
                marks.unlink(missing_ok=True)
            if not (about.exists() and marks.exists()):
                about.write_text(json.dumps(self._about))
            _allocate(marks, len(self._names))
        except OSError as error:
            raise CifartuiError(
                f"There is no room for the decoded images in {self._folder.parent} ({error.strerror}, "
                f"{np.prod(self._shape) / 1e9:.1f} GB are needed); free some, or name another folder in CIFARTUI_CACHE."
            ) from error
        self._marks = np.memmap(marks, np.uint8, "r+", shape=(len(self._names),))
        self._marks[~np.isin(self._marks, _KNOWN)] = _TODO  # of a damaged file

    def _decode(self, rows: list[int], progress: LoadProgress) -> None:
        done: list[Answer] = []
        kept_at = time.monotonic()
        try:
            with closing(image_decoders.decode(self._job, rows)) as answers:
                for some in answers:
                    done += some
                    progress.advance(len(some))
                    if time.monotonic() - kept_at >= _KEEP_S:
                        self._keep(done)
                        kept_at = time.monotonic()
        except OSError as error:
            raise self._not_written(error) from error
        finally:
            self._keep(done)

    def _keep(self, done: list[Answer]) -> None:
        """Flush pixels to the disk, whoever wrote them, and mark them then; empty the list in either case.

        Raises:
            CifartuiError: they cannot be flushed. Nothing is marked: the system has forgotten them by the next flush,
                which would succeed.
        """
        if not done:
            return
        rows, marks = zip(*done, strict=True)
        done.clear()
        try:
            with self._job.pixels.open("r+b") as file:
                os.fsync(file.fileno())
            self._marks[list(rows)] = marks
            self._marks.flush()
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> CifartuiError:
        return CifartuiError(
            f"Decoded images cannot be written to {self._folder} ({error.strerror}); look after that disk, or name "
            "another folder in CIFARTUI_CACHE, then start again. What was written before is kept."
        )

    def is_broken(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return true for each of `rows` whose file cannot be read: bool [M]."""
        marks = np.asarray(self._marks[rows])
        broken: npt.NDArray[np.bool_] = (marks > DECODED) & (marks != BY_OWN_RANGE)
        return broken

    def by_own_range(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Return the names of those of `rows` whose samples of more than 8 bits were scaled by their own range."""
        return [self._names[row] for row in rows[self._marks[rows] == BY_OWN_RANGE].tolist()]

    def faults(self, rows: npt.NDArray[np.int64]) -> dict[str, Fault]:
        """Return the names of those of `rows` that cannot be read, with the reason."""
        return {self._names[row]: Fault(self._marks[row]) for row in rows[self.is_broken(rows)].tolist()}

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return all images, memory-mapped: uint8 [N, 3, S, S]; rows not decoded are black. Writing changes a copy."""
        return self._pixels

    @contextmanager
    def _alone(self, report: Report) -> Iterator[None]:
        """Hold the cache's lock; wait for it while another process decodes."""
        while (fd := self._try_lock()) is None:
            what = f"{self._root}, which another process does now"
            report(DataProgressed(phase="decode", done=0, total=0, unit="images", what=what))
            time.sleep(_WAIT_S)
        try:
            yield
        finally:
            os.close(fd)

    def _try_lock(self) -> int | None:
        """Return the open lock file, locked if its file system has locks; None if another process holds it."""
        make_cache_folder(self._folder)
        try:
            fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another process has just removed this cache
            return None
        try:
            files.try_flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), (self._folder / "lock").stat()):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
        return None

    def _remove_outdated(self) -> None:
        """Remove caches of the same folder, of earlier versions or for files that changed, and of removed copies."""
        copies = str(cache_folder()) + os.sep
        for other in self._folder.parent.iterdir():
            with suppress(OSError, ValueError, AttributeError):
                about = json.loads(files.read(other / "about.json"))
                root = about.get("root", "")
                is_old = about.get("version", 1) < _VERSION and root == self._about["root"]
                is_of_no_use = root.startswith(copies) and not Path(root).exists()  # an archive that has changed
                if other != self._folder and (is_old or is_of_no_use or about == self._about):
                    _remove_unused(other)


def _remove_unused(cache: Path) -> None:
    """Remove a cache unless a process decodes into it now, or nobody can tell.

    Raises:
        OSError: one does, or it cannot be removed.
    """
    fd = os.open(cache / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if files.try_flock(fd, fcntl.LOCK_EX):
            shutil.rmtree(cache)
    finally:
        os.close(fd)


def _key_and_sizes(about: dict[str, Any], names: Sequence[str]) -> tuple[str, npt.NDArray[np.int64]]:
    """Return a name that changes with `about`, with the files and their order; and their sizes, 0 for one not there."""
    sizes = np.zeros(len(names), dtype=np.int64)
    digest = hashlib.blake2b(f"{json.dumps(about)}\n".encode(), digest_size=12)
    for row, name in enumerate(names):
        facts: tuple[object, ...]
        try:
            file = os.stat(f"{about['root']}/{name}")
            sizes[row] = file.st_size
            facts = (file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino)  # another may have size and mtime
        except OSError as error:
            facts = (error.errno,)
        digest.update(f"{name}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest(), sizes


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
