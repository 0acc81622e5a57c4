"""Files and folders that are their owner's alone, whatever the umask; nothing is written through a link.

A umask can take too little (0) or too much (0o277 takes the owner's own right to write), so what is made here is
given its mode afterwards. What is there already keeps the mode that somebody gave it. Knows nothing of runs.
"""

import errno
import os
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


def open_file(path: Path, flags: int) -> int:
    """Open a file, made 0600 where it is not there, and return its descriptor.

    Raises:
        OSError: it cannot be opened, or `path` is a link.
    """
    fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, _FILE)
    try:
        mode = os.fstat(fd).st_mode
        if mode & _FILE != _FILE:
            os.fchmod(fd, mode & 0o777 | _FILE)
    except OSError:
        os.close(fd)
        raise
    return fd
