"""Opening of an image file: of a format that data sets have, and a regular file. No decoding.

Pillow goes by what is in a file, not by its name: left to itself, it hands an EPS that is called x.png to Ghostscript.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import Image

from engine import files

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of those that are read: pixels only, by decoders within the process."""
_MOST_PIXELS = 100_000_000
"""Of an image: 300 MB in memory, for each thread that decodes."""


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image and close it again; its pixels are decoded when they are asked for.

    Raises:
        OSError: it is no regular file (nobody is made to wait for a pipe), cannot be read, or is no image.
        ValueError: it has more pixels than memory is taken for.
    """
    with os.fdopen(files.open_to_read(path), "rb") as file, Image.open(file, formats=_formats()) as image:
        if image.width * image.height > _MOST_PIXELS:  # a small file may unpack to many gigabytes
            raise ValueError(f"{image.width} × {image.height} pixels")
        yield image


@cache
def _formats() -> tuple[str, ...]:
    """Return those of FORMATS that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
