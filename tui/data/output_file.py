"""Files that the user asked for: written whole or not at all, and never over something by accident."""

import os
from pathlib import Path

from presets.errors import CifartuiError


def write_new(path: Path, content: bytes, *, force: bool = False) -> None:
    """Write a file.

    Raises:
        CifartuiError: it is there already and `force` is not set, or it cannot be written.
    """
    if path.exists() and not force:
        raise CifartuiError(f"{path} is there already; name another file, or add --force to write over it.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CifartuiError(
            f"{path} cannot be written ({error.strerror}); name a file in a folder of yours."
        ) from error
