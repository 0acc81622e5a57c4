"""Output file of a command: written whole or not at all, and over another file only on demand.

Apart from engine/files.py, whose files are a run's own: private, and written over.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from presets.errors import CifartuiError


def write_new(path: Path, content: bytes, *, force: bool = False) -> None:
    """Write a file.

    Raises:
        CifartuiError: it exists and `force` is not set, or it cannot be written.
    """
    with new_file(path, force=force) as file:
        file.write(content)


def check_new(path: Path, *, force: bool = False) -> None:
    """Raise CifartuiError if a file is there and `force` is not set: before long work, and again when it is written.

    So it does for "-", which elsewhere stands for standard output.
    """
    if str(path) == "-":
        raise CifartuiError('This cannot be printed: name a file in place of "-".')
    if path.exists() and not force:
        raise CifartuiError(f"{path} is there already; name another file, or add --force to write over it.")


@contextmanager
def new_path(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a temporary path, with the same ending, for somebody to write; see `new_file`, but for the open file."""
    check_new(path, force=force)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CifartuiError(
                f"{path} cannot be written ({error.strerror}); name a file in a folder of yours."
            ) from error
        raise


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file to write; it has its name only once the context ends, and is removed if an exception ends it.

    Raises:
        CifartuiError: as `write_new`.
    """
    check_new(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # of standard output
            raise CifartuiError(
                f"{path} cannot be written ({error.strerror}); name a file in a folder of yours."
            ) from error
        raise
