"""Cache folder: decoded images, unpacked archives and compiled code. It belongs to its owner alone. No torch."""

import errno
import os
import stat
from pathlib import Path

import platformdirs

from engine import files
from presets.errors import CifartuiError


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
