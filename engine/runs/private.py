"""Files and folders that are their owner's alone, whatever the umask; nothing is written through a link.

A umask can take too little (0) or too much (0o277 takes the owner's own right to write), so what is made here is
given its mode afterwards. What is there already keeps the mode that somebody gave it. Knows nothing of runs.
"""

import errno
import os
import stat
from pathlib import Path

_FOLDER, _FILE = 0o700, 0o600


def new_folder(path: Path) -> None:
    """Make a folder, 0700; raise FileExistsError where its name is taken."""
    path.mkdir(mode=_FOLDER)
    path.chmod(_FOLDER)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, each of them 0700.

    Raises:
        OSError: one of them cannot be made, or is something else than a folder.
    """
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            new_folder(folder)
        except FileExistsError:  # somebody else makes the same
            path = folder
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def open_to_read(path: Path) -> int:
    """Open a file that may be anybody's, and return its descriptor.

    Raises:
        OSError: it cannot be read. A pipe or a device in its place is no file, and nobody is made to wait for it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise FileNotFoundError(errno.ENOENT, "it is no file", str(path))


def read(path: Path, last: int | None = None) -> bytes:
    """Return what is in a file, or the last so many bytes of it; see `open_to_read`."""
    with os.fdopen(open_to_read(path), "rb") as file:
        if last is not None:
            file.seek(max(0, os.fstat(file.fileno()).st_size - last))
        return file.read()


def open_file(path: Path, flags: int) -> int:
    """Open a file, made 0600 where it is not there, and return its descriptor.

    Raises:
        OSError: it cannot be opened, or `path` is a link, or a pipe that nobody reads.
    """
    fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, _FILE)
    try:
        mode = os.fstat(fd).st_mode
        if mode & _FILE != _FILE:
            os.fchmod(fd, mode & 0o777 | _FILE)
    except OSError:
        os.close(fd)
        raise
    return fd
