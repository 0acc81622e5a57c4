"""Opening of an image file: of a format that data sets have, and a regular file. Faults of files. No decoding.

Pillow goes by what is in a file, not by its name: left to itself, it hands an EPS that is called x.png to Ghostscript.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from engine import files
from engine.shared.image_scan import HEIF_BRANDS

FORMATS = ("JPEG", "PNG", "WEBP", "MPO", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM")
"""Pillow's names of those that are read, the frequent ones first: pixels only, by decoders within the process."""
HEIF = "HEIF"
"""Read where the package pillow-heif is installed."""
_MOST_PIXELS = 100_000_000
"""Of an image: 300 MB in memory, for each process or thread that decodes."""


class Fault(IntEnum):
    """Reason why an image file is not read; numbers are kept in caches, and those of 0 and 1 are taken there."""

    DAMAGED = 2
    NO_IMAGE = 3
    EMPTY = 4
    TOO_LARGE = 5
    NO_RANGE = 6
    NEEDS_HEIF = 7
    ABSENT = 8
    NOT_REGULAR = 9
    NO_PERMISSION = 10
    NOT_READABLE = 11
    NO_MEMORY = 12

    @property
    def text(self) -> str:
        """The reason as a clause that stands behind a file's name."""
        return _TEXTS[self]

    @property
    def is_of_the_file(self) -> bool:
        """True if reading the same file again fails again, whatever is installed or permitted by then."""
        return self <= Fault.NO_RANGE


_TEXTS = {
    Fault.DAMAGED: "damaged",
    Fault.NO_IMAGE: "no image of a format that is read",
    Fault.EMPTY: "empty",
    Fault.TOO_LARGE: f"more than {_MOST_PIXELS // 1_000_000} megapixels",
    Fault.NO_RANGE: "numbers below 0, above 65,535 or not finite, of which black and white are not known",
    Fault.NEEDS_HEIF: "HEIF: pip install pillow-heif",
    Fault.ABSENT: "not there",
    Fault.NOT_REGULAR: "no regular file",
    Fault.NO_PERMISSION: "no permission to read it",
    Fault.NOT_READABLE: "an error of its disk",
    Fault.NO_MEMORY: "no memory left for it",
}


class UnreadableError(ValueError):
    """An image file is not read, for the reason `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image and close it again; its pixels are decoded when they are asked for.

    Raises:
        OSError: it is no regular file (nobody is made to wait for a pipe), cannot be read, or is no image.
        UnreadableError: it has more pixels than memory is taken for.
    """
    with os.fdopen(files.open_to_read(path), "rb") as file, Image.open(file, formats=formats()) as image:
        if image.width * image.height > _MOST_PIXELS:  # a small file may unpack to many gigabytes
            raise UnreadableError(Fault.TOO_LARGE)
        yield image


def fault_of(error: Exception, path: Path) -> Fault:
    """Return why `path` is not read, for what opening or decoding it raised."""
    if isinstance(error, UnreadableError):
        return error.fault
    if isinstance(error, Image.DecompressionBombError):
        return Fault.TOO_LARGE
    if isinstance(error, MemoryError):
        return Fault.NO_MEMORY
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(path)
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in (errno.EACCES, errno.EPERM):
            return Fault.NO_PERMISSION
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return Fault.NOT_REGULAR if os.path.lexists(path) and path.exists() else Fault.ABSENT
        return Fault.NOT_READABLE
    return Fault.DAMAGED  # what Pillow's many readers raise on damaged bytes is open-ended


def _unidentified(path: Path) -> Fault:
    try:
        with os.fdopen(files.open_to_read(path), "rb") as file:
            start = file.read(12)
    except OSError:
        return Fault.NOT_READABLE
    if start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS and HEIF not in formats():
        return Fault.NEEDS_HEIF
    return Fault.NO_IMAGE if start else Fault.EMPTY


@cache
def formats() -> tuple[str, ...]:
    """Return those of FORMATS that this Pillow can read, and HEIF if its package is installed."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return tuple(name for name in (*FORMATS, HEIF) if name in Image.OPEN)
