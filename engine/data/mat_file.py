"""Reader of vectors in MATLAB's files of version 5: numbers only. No cells, objects or functions.

After "MAT-File Format" of MathWorks. scipy would be 100 MB for two vectors.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine import files
from presets.errors import CifartuiError

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of elements that hold numbers."""
_MOST_BYTES = 1 << 24

Element = tuple[int, bytes]
"""Type and content."""


def read_mat(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Return the numeric arrays in a file by name, flattened.

    Raises:
        CifartuiError: it cannot be read, or is damaged.
    """
    try:
        content = files.read(path)
        order = {b"IM": "<", b"MI": ">"}[content[126:128]]
        arrays = {}
        for kind, element in _elements(content[_HEADER_BYTES:], order):
            if kind == _COMPRESSED:
                unpacked = zlib.decompressobj().decompress(element, _MOST_BYTES)
                kind, element = next(_elements(unpacked, order))
            if kind == _MATRIX:
                _, _, (_, name), (type_, numbers), *_ = _elements(element, order)
                arrays[name.decode("ascii")] = np.frombuffer(numbers, f"{order}{_DTYPES[type_]}").astype(np.float64)
    except OSError as error:
        raise CifartuiError(f"{path} could not be read: {error.strerror}.") from error
    except (ValueError, KeyError, StopIteration, struct.error, zlib.error) as error:
        raise CifartuiError(f"{path} is damaged, or no file of MATLAB 5 with numbers; fetch it again.") from error
    return arrays


def _elements(content: bytes, order: str) -> Iterator[Element]:
    """Yield the elements that lie one after the other; each is padded to eight bytes, unless compressed."""
    start = 0
    while start + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, start)
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, begin, end = kind & 0xFFFF, kind >> 16, start + 4, start + 8
        else:
            begin, end = start + 8, start + 8 + size
            end += 0 if kind == _COMPRESSED else -size % 8
        if begin + size > len(content):
            raise ValueError("cut short")
        yield kind, content[begin : begin + size]
        start = end
