"""Reading CIFAR's pickles without running what is in them.

Arrays are rebuilt from stand-ins: nothing that a pickle names is ever called, numpy's own constructors
included. Knows nothing of CIFAR's keys.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from presets.errors import CifartuiError
from presets.problems import printable

_NUMBERING = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


def load_pickle(content: bytes, what: str, *, is_known: bool = False) -> dict[str, Any]:
    """Return the dictionary in a pickle, as Python 2 or 3 wrote it in protocol 2.

    Args:
        content: the pickle.
        what: what it is, for the error message.
        is_known: its digest is that of a published file, so that half a second of checks can be left out.

    Returns:
        Its entries. Keys are text, uint8 arrays are numpy arrays, text of Python 2 is bytes.

    Raises:
        CifartuiError: damaged, no dictionary, or asks for anything but uint8 arrays.
    """
    try:
        if not is_known:
            _check_memory(content)
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except CifartuiError as error:
        raise CifartuiError(f"{what} {error}") from None
    except Exception:  # what damaged bytes raise, MemoryError included, is open-ended
        raise CifartuiError(f"{what} is damaged or incomplete; delete it and fetch it again.") from None
    if not isinstance(loaded, dict):
        raise CifartuiError(f"{what} holds no dictionary, so it is no CIFAR file; fetch it again.")
    named = {_text(key): value for key, value in loaded.items() if isinstance(key, bytes | str)}
    return {key: _array(value, what) if isinstance(value, _Array) else value for key, value in named.items()}


def _check_memory(content: bytes) -> None:
    """Raise ValueError where a pickle numbers its objects wildly: Python makes a list as long as the greatest number.

    Five bytes would then take all the memory there is. Objects are numbered as they come, so no number is greater
    than how many opcodes came before.
    """
    for position, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name in _NUMBERING and isinstance(argument, int) and not 0 <= argument <= position:
            raise ValueError("an object with a wild number")


class _Array:
    """Stands in for an array: keeps its state unread."""

    __slots__ = ("state",)

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dtype:
    """Stands in for a dtype: keeps its name."""

    __slots__ = ("name",)

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Byte order, which one byte does not have, and fields, which are not admitted."""


class _Bytes(bytes):
    """What Python 3 calls `_codecs.encode(text, "latin1")` for, having no opcode for bytes in protocol 2."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> "_Bytes":
        if encoding != "latin1":
            raise ValueError(f"bytes encoded as {encoding}")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise TypeError("bytes have no state")


_ADMITTED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            asked = printable(f"{module}.{name}", 100)
            raise CifartuiError(
                f"asks Python to run {asked}, which no CIFAR file does, and was not loaded; "
                "delete it and fetch it again."
            )
        return admitted


def _text(name: object) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _array(array: _Array, what: str) -> npt.NDArray[np.uint8]:
    match array.state:
        case (_, tuple(shape), _Dtype(name=name), is_fortran, bytes(content)):
            pass
        case _:
            raise CifartuiError(f"{what} holds an array in a form that CIFAR does not use; fetch it again.")
    if name not in ("u1", b"u1"):
        raise CifartuiError(f"{what} holds an array of {_text(name)}, where CIFAR has uint8; fetch it again.")
    is_shape = all(isinstance(size, int) and size >= 0 for size in shape)
    if not is_shape or math.prod(shape) != len(content):
        raise CifartuiError(f"{what} holds an array whose shape does not fit its {len(content):,} bytes.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if is_fortran else "C")
