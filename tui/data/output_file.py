"""Output file of a command: written whole or not at all, and over another file only on demand.

Apart from engine/files.py, whose files are a run's own: private, and written over.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from presets.errors import CifartuiError
from presets.problems import printable

_ADVICE = "name a file in a folder of yours"


def write_new(path: Path, content: bytes, *, force: bool = False) -> None:
    """Write a file.

    Raises:
        CifartuiError: as `check_new`, or it cannot be written.
    """
    with new_file(path, force=force) as file:
        file.write(content)


def check_new(path: Path, *, force: bool = False, advice: str = "add --force to write over it") -> None:
    """Raise CifartuiError unless a file can be put at a path: before long work, and again when it is written.

    Args:
        path: where it is to be. What is no regular file (a folder, a device, a pipe) is never written over.
        force: a file that is there is written over.
        advice: of how to do that; empty where it cannot be done.
    """
    shown = printable(str(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if not stat.S_ISREG(mode):
        raise CifartuiError(f"{shown} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}; {_ADVICE}.")
    if not force:
        raise CifartuiError(f"{shown} is there already; name another file{f', or {advice}' if advice else ''}.")


@contextmanager
def new_path(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give the path of a new empty file, with the same ending, for somebody to write; see `new_file`."""
    check_new(path, force=force)
    temporary = path.with_name(f".{os.urandom(8).hex()}{path.suffix}")  # nobody can put a link there before
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.close(fd)
        yield temporary
        temporary.chmod(mode)  # whoever wrote may have put a file of another mode there, as safetensors does
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # of standard output
            raise _unwritable(path, error) from error
        raise


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file to write; it has its name only once the context ends, and is removed if an exception ends it.

    Raises:
        CifartuiError: as `write_new`.
    """
    with new_path(path, force=force) as temporary, temporary.open("wb") as file:
        yield file


def _unwritable(path: Path, error: OSError) -> CifartuiError:
    return CifartuiError(f"{printable(str(path))} cannot be written ({error.strerror}); {_ADVICE}.")
