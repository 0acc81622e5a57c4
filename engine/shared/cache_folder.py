"""Cache folder: decoded images, unpacked archives and compiled code. It belongs to its owner alone. No torch."""

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from engine import files
from presets.errors import CifartuiError

UNUSED_DAYS = 30
"""Age at which an unpacked copy that nobody has used is removed."""
_SOURCE, _LOCK = ".source", ".lock"


def cache_folder() -> Path:
    """Return the folder of all caches: CIFARTUI_CACHE, or the user's cache folder."""
    named = os.environ.get("CIFARTUI_CACHE")
    return files.expanded(named) if named else platformdirs.user_cache_path("cifartui")


def make_cache_folder(folder: Path) -> None:
    """Make a folder for a cache if it is not there, and see to it that only its owner may write there.

    What is in it is trusted: pixels are trained on, compiled code is run. So it must be ours, and no link.

    Raises:
        CifartuiError: it cannot be made, or is somebody else's.
    """
    try:
        files.make_folders(folder)
        about = folder.lstat()
        files.check_ours(about, folder)
        if not stat.S_ISDIR(about.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(folder))
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            folder.chmod(0o700)
    except OSError as error:
        raise CifartuiError(
            f"{folder} cannot be used for a cache ({error.strerror}); name another folder in CIFARTUI_CACHE."
        ) from error


@contextmanager
def new_copy(folder: Path, source: str) -> Iterator[Path]:
    """Give the block a folder to unpack into, which becomes `folder` when the block ends, or is removed if it raises.

    Then the copies beside it that are of no use any more are removed: older ones of the same source, those that
    nobody has used for `UNUSED_DAYS`, and unfinished ones of processes that are gone. A copy is a folder whose
    name begins like that of `folder` up to its last "-", if it has one.

    Args:
        folder: in the cache folder; its name changes with the source's content.
        source: archive or archives that are unpacked, by which older copies are known.

    Raises:
        CifartuiError: the folder above cannot be made, or is somebody else's.
        OSError: the copy cannot be made.
    """
    make_cache_folder(folder.parent)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    files.new_folder(temporary)
    lock_fd = os.open(temporary / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with suppress(BlockingIOError):  # somebody is just looking whether it is held
            files.try_flock(lock_fd, fcntl.LOCK_EX)
        yield temporary
        (temporary / _SOURCE).write_bytes(os.fsencode(source))
        (temporary / _LOCK).unlink()
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        os.close(lock_fd)
        shutil.rmtree(temporary, ignore_errors=True)
    _remove_old_copies(folder, os.fsencode(source))


def note_use(copy: Path) -> None:
    """Let the age of an unpacked copy begin anew."""
    with suppress(OSError):
        os.utime(copy / _SOURCE)


def _remove_old_copies(folder: Path, source: bytes) -> None:
    stem, dash, _ = folder.name.rpartition("-")
    for other in folder.parent.glob(f"{stem}{dash}*"):
        if other != folder and not other.is_symlink() and _is_old(other, source):
            shutil.rmtree(other, ignore_errors=True)


def _is_old(copy: Path, source: bytes) -> bool:
    """Return true for a copy of the same source, one that is not used, and one that nobody finishes."""
    try:
        about = (copy / _SOURCE).stat()
        return files.read(copy / _SOURCE) == source or time.time() - about.st_mtime > UNUSED_DAYS * 86_400
    except OSError:
        pass
    try:
        return (copy / _LOCK).exists() and files.is_locked(copy / _LOCK) is False  # None if nobody can tell
    except OSError:
        return False
