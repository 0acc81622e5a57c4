"""Cache folder: decoded images, unpacked archives and compiled code. It belongs to its owner alone. No torch."""

import atexit
import errno
import fcntl
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from engine import files
from engine.shared.cleaned_up import cleaned_up
from presets.errors import CifartuiError

UNUSED_DAYS = 30
"""Age at which an unpacked copy that nobody has used is removed."""
_SOURCE, _LOCK, _NEW_LOCK = ".source", ".lock", ".new-lock"
_UNFINISHED = re.compile(r".+\.\d+")
"""Names of copies that are being written: that of the copy, and the process's id."""
_THREADS_END_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02
_under_way: list[Path] = []
"""Copies that threads other than the main one are writing."""


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

    So it is if a signal ends the process. Then the copies beside it that are of no use any more are removed: older ones
    of the same source, those that nobody has used for `UNUSED_DAYS`, and unfinished ones of processes that are gone. A
    copy is a folder whose name begins like that of `folder` up to its last "-", if it has one.

    Args:
        folder: in the cache folder; its name changes with the source's content.
        source: archive or archives that are unpacked, by which older copies are known.

    Raises:
        CifartuiError: the folder above cannot be made, or is somebody else's.
        OSError: the copy cannot be made.
    """
    make_cache_folder(folder.parent)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    with _awaited(temporary), cleaned_up(lambda: _remove(temporary)):
        _remove(temporary)
        files.new_folder(temporary)
        lock_fd = os.open(temporary / _NEW_LOCK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            files.try_flock(lock_fd, fcntl.LOCK_EX)
            (temporary / _NEW_LOCK).rename(temporary / _LOCK)  # so that nobody finds it before it is held
            yield temporary
            (temporary / _SOURCE).write_bytes(os.fsencode(source))
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
            (folder / _LOCK).unlink()
        finally:
            os.close(lock_fd)
    _remove_old_copies(folder, os.fsencode(source))


@contextmanager
def _awaited(copy: Path) -> Iterator[None]:
    """Let the program wait at its end, for some seconds, until the block has cleaned up: no daemon thread is joined."""
    if threading.current_thread() is threading.main_thread():
        yield
        return
    _under_way.append(copy)
    try:
        yield
    finally:
        _under_way.remove(copy)


@atexit.register
def await_clean_up() -> None:
    """Wait, for some seconds, until no thread but the main one writes a copy: called at the program's end."""
    until = time.monotonic() + _THREADS_END_WITHIN_S
    while _under_way and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)


def remove_unfinished(folder: Path) -> None:
    """Remove the copies in a folder that processes which are gone have not finished."""
    with suppress(OSError):
        for copy in [*folder.iterdir()]:
            if _UNFINISHED.fullmatch(copy.name) and not copy.is_symlink() and _is_given_up(copy):
                _remove(copy)


def note_use(copy: Path) -> None:
    """Let the age of an unpacked copy begin anew."""
    with suppress(OSError):
        os.utime(copy / _SOURCE)


def _remove_old_copies(folder: Path, source: bytes) -> None:
    stem, dash, _ = folder.name.rpartition("-")
    for other in folder.parent.glob(f"{stem}{dash}*"):
        if other != folder and not other.is_symlink() and _is_old(other, source):
            _remove(other)


def _is_old(copy: Path, source: bytes) -> bool:
    """Return true for a copy of the same source, one that is not used, and one that nobody finishes."""
    try:
        about = (copy / _SOURCE).stat()
        return files.read(copy / _SOURCE) == source or time.time() - about.st_mtime > UNUSED_DAYS * 86_400
    except OSError:
        return _is_given_up(copy)


def _is_given_up(copy: Path) -> bool:
    """Return true for an unfinished copy whose process is gone."""
    try:
        return (copy / _LOCK).exists() and files.is_locked(copy / _LOCK) is False  # None if nobody can tell
    except OSError:
        return False


def _remove(copy: Path) -> None:
    """Remove a copy, its lock last: what a process that ends meanwhile leaves is still known as unfinished."""
    with suppress(OSError):
        for path in [*copy.iterdir()]:
            if path.name == _LOCK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    shutil.rmtree(copy, ignore_errors=True)
