"""A disk that takes no more: how that is told from other failures, what is said of it, and room for a last word.

Knows errors and files; nothing of what is in them.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from engine.runs import private
from presets.errors import CifartuiError

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
    """Take a little of the disk, to be given back for a run's last word.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    fd = private.open_file(reserve, os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, _RESERVE_BYTES)
    except OSError as error:
        if error.errno in _FULL:
            reserve.unlink(missing_ok=True)
            raise
    finally:  # a file system that cannot keep room only loses the last word on a full disk
        os.close(fd)


def free_room(reserve: Path) -> None:
    """Give the room back."""
    with suppress(OSError):
        reserve.unlink(missing_ok=True)
