"""Files of the run directory: private modes, no symlinks, atomic writes, full-disk errors. No torch.

New files and folders belong to their owner alone, whatever the umask.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import msgspec

from presets.errors import CifartuiError
from presets.problems import printable

DAMAGED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors that decoding a damaged file raises."""


_FOLDER, _FILE = 0o700, 0o600
_NOT_WAITED_FOR = os.O_NONBLOCK | os.O_NOCTTY
"""A pipe is not waited for, and a terminal does not become that of a worker, which has none."""


def expanded(named: str) -> Path:
    """Return a path with a leading ~ or ~user replaced by that home; as it is if there is no such user."""
    return Path(os.path.expanduser(named))  # noqa: PTH111 (Path.expanduser raises there)


def working_folder() -> Path:
    """Return the working directory; the root if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")


def new_folder(path: Path) -> None:
    """Make a folder, 0700; raise FileExistsError where its name is taken."""
    path.mkdir(mode=_FOLDER)
    try:
        path.chmod(_FOLDER)
    except OSError:
        path.rmdir()
        raise


def make_folders(path: Path) -> list[Path]:
    """Make a folder and those above it that are missing, each of them 0700; return those that were made.

    Raises:
        OSError: one of them cannot be made, or is something else than a folder. None of them is left then.
    """
    missing, made = list[Path](), list[Path]()
    while not path.exists():
        missing.append(path)
        path = path.parent
    try:
        for folder in reversed(missing):
            path = folder
            with suppress(FileExistsError):  # somebody else makes the same
                new_folder(folder)
                made.append(folder)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(made: Sequence[Path]) -> None:
    """Remove the folders that `make_folders` made, unless somebody has begun to use them."""
    with suppress(OSError):
        for folder in reversed(made):
            folder.rmdir()


_NOT_SYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk; nothing is done on a file system that does not do that for folders.

    Raises:
        OSError: the disk failed.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise
    finally:
        os.close(fd)


class NoFileError(FileNotFoundError):
    """A folder, a pipe or a device lies in the place of a file."""


def open_to_read(path: Path) -> int:
    """Open a file that may be anybody's, and return its descriptor.

    Raises:
        NoFileError: a folder, a pipe or a device is in its place; nobody is made to wait for it.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | _NOT_WAITED_FOR)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise NoFileError(errno.ENOENT, "it is no file", str(path))


class NotOursError(PermissionError):
    """A file belongs to another user, and is not obeyed; `strerror` is a clause that says whose it is."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(errno.EACCES, f"it belongs to {owner}, not to you", str(path))


def check_ours(about: os.stat_result, path: Path) -> None:
    """Raise NotOursError if a file belongs to another user than this process's and root.

    Some file systems give every file to one user, whoever makes it (NFS that squashes users or root, CIFS, sshfs). So
    a file whose owner is the one that a file of ours would get in its folder is taken for ours.

    Args:
        about: the file's status.
        path: where it is.
    """
    owner = about.st_uid
    if owner in (os.geteuid(), 0) or owner == _owner_of_new_files(str(path.parent), about.st_dev):
        return
    raise NotOursError(path, _user_name(owner))


@lru_cache(maxsize=64)
def _owner_of_new_files(folder: str, device: int) -> int | None:
    """Return the user that a file of ours gets in a folder of the file system `device`; None if none can be made."""
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=folder) as file:
            about = os.fstat(file.fileno())
    except OSError:
        return None
    return about.st_uid if about.st_dev == device else None


def _user_name(number: int) -> str:
    from pwd import getpwuid

    try:
        return f"{getpwuid(number).pw_name} (user {number})"
    except KeyError:
        return f"user {number}"


def why_refused(path: Path, error: OSError) -> str:
    """Return the reason of an error, and whose `path` is if it is another user's."""
    why = error.strerror or type(error).__name__
    if isinstance(error, PermissionError):
        with suppress(OSError):
            owner = path.lstat().st_uid
            return why if owner == os.geteuid() else f"{why}: it belongs to {_user_name(owner)}"
    return why


def unusable(error: OSError) -> CifartuiError:
    """Return what to say of a file, named in the error, whose failure nobody foresaw."""
    why = error.strerror or type(error).__name__
    if error.filename is None:
        return CifartuiError(f"A file cannot be used ({why}).")
    path = Path(os.fsdecode(error.filename))
    return CifartuiError(
        f"{printable(str(path))} cannot be used ({why_refused(path, error)}); check its permissions and its disk."
    )


def check_no_link(path: Path) -> None:
    """Raise OSError if a link lies in the place of a file or folder; nothing is read or written through one."""
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if is_link:
        raise OSError(errno.ELOOP, "it is a link", str(path))


def open_ours(path: Path) -> int:
    """Open a regular file to read, and return its descriptor.

    Raises:
        NotOursError: it belongs to another user.
        OSError: it, or its folder, is a link, or it cannot be read.
    """
    for place in (path.parent, path):
        check_no_link(place)
    fd = open_to_read(path)
    try:
        check_ours(os.fstat(fd), path)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_ours(path: Path) -> bytes:
    """Return what is in a file; raise NotOursError if it belongs to another user. See `read`."""
    with os.fdopen(open_to_read(path), "rb") as file:
        check_ours(os.fstat(file.fileno()), path)
        return _read_all(file, path, MOST_BYTES)


MOST_BYTES = 1 << 26
"""No file of settings, and no queue, is as large; a damaged one would fill the memory."""


def read(path: Path, last: int | None = None, *, most: int = MOST_BYTES) -> bytes:
    """Return what is in a file of at most `most` bytes, or the last so many bytes of it.

    Raises:
        OSError: it cannot be read (see `open_to_read`), or is larger.
    """
    with os.fdopen(open_to_read(path), "rb") as file:
        if last is not None:
            file.seek(max(0, os.fstat(file.fileno()).st_size - last))
            return file.read(last)
        return _read_all(file, path, most)


def _read_all(file: BinaryIO, path: Path, most: int) -> bytes:
    if os.fstat(file.fileno()).st_size > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB", str(path))
    return file.read(most)


def open_file(path: Path, flags: int) -> int:
    """Open a file, made 0600 where it is not there, and return its descriptor.

    Raises:
        OSError: it cannot be opened, or `path` is a link, or a pipe that nobody reads.
    """
    fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | _NOT_WAITED_FOR, _FILE)
    try:
        mode = os.fstat(fd).st_mode
        if mode & _FILE != _FILE:
            os.fchmod(fd, mode & 0o777 | _FILE)
    except OSError:
        os.close(fd)
        raise
    return fd


def open_for_folders_owner(path: Path, flags: int) -> int:
    """Open a file as `open_file` does; one that root makes belongs to the owner of its folder, who may read it then."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        with suppress(FileExistsError):
            fd = open_file(path, flags | os.O_EXCL)
            try:
                os.fchown(fd, owner.st_uid, owner.st_gid)
            except OSError:
                os.close(fd)
                path.unlink()
                raise
            return fd
    return open_file(path, flags)


def read_derived(path: str, most_bytes: int) -> tuple[bytes, os.stat_result]:
    """Return the first bytes of a file that was derived from others, and its status; see `write_derived`.

    Raises:
        OSError: it cannot be read, or is a link or no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | _NOT_WAITED_FOR)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is no file", path)
        return os.read(fd, min(most_bytes, about.st_size)), about
    finally:
        os.close(fd)


def write_derived(path: Path, pieces: Iterable[bytes]) -> bool:
    """Write a file that can be made anew from others: whole or not at all, and not flushed. Return whether it was.

    Whoever reads it must check that it is whole, because a power failure may have cut it. It is the last change of its
    folder, until a name in that comes, goes or is replaced: then the folder's time is later than this file's.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        fd = open_file(temporary, os.O_WRONLY | os.O_EXCL)
    except OSError:  # the folder is another user's or gone, or its disk is full
        return False
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(pieces)
        temporary.replace(path)
        os.utime(path)  # so that it is changed later than its folder
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        return False
    return True


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space, no quota, or larger than this process may write."""
_RESERVE_BYTES = 1 << 16


def os_error_in(error: BaseException | None) -> OSError | None:
    """Return the OSError that an error is or came of: torch wraps what its file raises in a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def unwritable(path: Path, error: OSError) -> CifartuiError:
    """Return what is to be said where a file of a run cannot be written."""
    if error.errno in _FULL:
        return CifartuiError(
            f"The disk is full ({error.strerror}): {path} could not be written. What was written before is kept; "
            "make room there, then resume the run."
        )
    return CifartuiError(
        f"{path} could not be written ({error.strerror or error}). What was written before is kept; "
        "resume the run once that folder can be written to."
    )


def keep_room(reserve: Path) -> None:
    """Take a little of the disk, to be given back for a run's last event.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    fd = open_file(reserve, os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, _RESERVE_BYTES)
    except OSError as error:
        if error.errno in _FULL:
            reserve.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(reserve)) from error
    finally:  # a file system that cannot keep room only loses the last event on a full disk
        os.close(fd)


def free_room(reserve: Path) -> None:
    """Give the room back."""
    with suppress(OSError):
        reserve.unlink(missing_ok=True)


def try_flock(fd: int, kind: int) -> bool:
    """Take the flock of an open file at once; return False if its file system refuses locks.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def is_locked(path: Path) -> bool | None:
    """Return whether some process holds the flock on `path`; None if its file system refuses locks (some NFS, FUSE)."""
    try:
        fd = open_to_read(path)
    except OSError:
        return False
    try:
        return False if try_flock(fd, fcntl.LOCK_SH) else None
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
