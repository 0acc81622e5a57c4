"""Reader of files that torch.save wrote, which checks them before torch reads them. Tensors and plain values only.

torch trusts such a file: it unpacks a megabyte to gigabytes, and reads as many bytes for a tensor as the pickle says.
If the file has fewer, the process ends, or the tensor shows other memory of the process.
"""

import os
import pickle
import pickletools
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

_MOST_PICKLE_BYTES = 64_000_000
_LONGEST_NAME = 200
_LEGACY_PICKLES = 5
"""Magic number, version, system, state dict, and the keys of its storages."""
_NUMBERING = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_ENDS_WITH = struct.Struct("<4s16sH")
"""The record at the end of a zip file: signature, numbers, length of a comment."""
_STORAGES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
"""Bytes of a number in each type of torch's storages that is read."""


def load_tensors(file: IO[bytes], *, legacy: bool = False, mapped: Path | None = None) -> Any:
    """Return the content of a file that torch.save wrote, on the CPU.

    Args:
        file: open for reading.
        legacy: also admit the format from before torch 1.6, which is no zip file; only its names are checked.
        mapped: path of the file, if tensors may stay in it until they are copied.

    Raises:
        ValueError: it promises more than it holds.
        Exception: damaged bytes raise all kinds of errors in zipfile and in torch.
    """
    is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip or not legacy:
        _check_archive(file)
    else:
        _check_legacy(file)
    file.seek(0)
    if mapped is not None and is_zip:
        return torch.load(mapped, map_location="cpu", weights_only=True, mmap=True)
    return torch.load(file, map_location="cpu", weights_only=True)


def _check_legacy(file: IO[bytes]) -> None:
    """Raise ValueError for one of the pickles at the start of a file from before torch 1.6; see `_check_opcodes`."""
    file.seek(0)
    pickles = BytesIO(file.read(_MOST_PICKLE_BYTES))
    for _ in range(_LEGACY_PICKLES):
        _check_opcodes(pickles)


def _check_opcodes(content: IO[bytes]) -> None:
    """Raise ValueError if torch would take minutes or all memory to refuse a pickle.

    torch looks for patterns in the text of its own error, which holds the name that it refuses. An object that is
    given a high number makes Python's unpickler allocate a list of that length; pickles count from 0.
    """
    for position, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        is_long = opcode.name in {"GLOBAL", "INST"} and len(str(argument)) > _LONGEST_NAME
        if is_long or opcode.name == "STACK_GLOBAL":
            raise ValueError("a name that torch does not use")
        if opcode.name in _NUMBERING and isinstance(argument, int) and not 0 <= argument <= position:
            raise ValueError("an object with a number that is too high")


def _check_archive(file: IO[bytes]) -> None:
    """Raise ValueError unless every byte that the archive promises is there, as it is, and once."""
    size = file.seek(0, os.SEEK_END)
    if size < _ENDS_WITH.size:
        raise ValueError("it is no archive")
    file.seek(-_ENDS_WITH.size, os.SEEK_END)
    signature, _, comment_length = _ENDS_WITH.unpack(file.read())
    if signature != b"PK\x05\x06" or comment_length:  # readers differ in what they find if more follows
        raise ValueError("it does not end as torch's archives do")
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        folder = next(iter(members), "").partition("/")[0]
        for name, member in members.items():
            is_stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
            if not is_stored or member.flag_bits & 1 or not name.startswith(f"{folder}/"):
                raise ValueError("it holds something packed, which torch does not write")
        if len(members) < len(archive.infolist()) or sum(member.file_size for member in members.values()) > size:
            raise ValueError("it promises more than it holds")
        content = members.get(f"{folder}/data.pkl")
        if content is None or content.file_size > _MOST_PICKLE_BYTES:
            raise ValueError("it has no list of its tensors, or too long a one")
        for key, num_bytes in _storages(archive.read(content)).items():
            stored = members.get(f"{folder}/data/{key}")
            if stored is None or stored.file_size != num_bytes:
                raise ValueError(f"it has not the {num_bytes} bytes of a tensor")


class _Inert:
    """Stand-in for everything that a pickle names or makes: accepts all calls and does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _value: object) -> None:
        """Take a value."""


class _StorageType(_Inert):
    """Stand-in for a type of storage, with the bytes of a number."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes


class _Surveyor(pickle.Unpickler):
    """Unpickler that calls nothing that a pickle names, and records the storages that it asks for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(BytesIO(content), encoding="utf-8")
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return _StorageType(1)
        return _Inert

    def persistent_load(self, pid: Any) -> object:
        match pid:
            case ("storage", _StorageType(num_bytes=num_bytes), str(key), _, int(count)) if count >= 0:
                if self.storages.setdefault(key, count * num_bytes) != count * num_bytes:
                    raise ValueError("a storage has two lengths")
                return _Inert()
        raise ValueError("it asks for something else than a storage of numbers")


def _storages(content: bytes) -> dict[str, int]:
    """Return the length in bytes of every storage that a pickle asks for, by its name in the archive.

    Raises:
        ValueError: it asks for anything else, or see `_check_opcodes`.
    """
    _check_opcodes(BytesIO(content))
    surveyor = _Surveyor(content)
    surveyor.load()
    return surveyor.storages
