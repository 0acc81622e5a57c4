"""Checkpoints on disk: tensors and plain values, written whole or not at all, read without running code."""

import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from engine import files
from presets.errors import CifartuiError

_MOST_BYTES_OF_NAMES = 64_000_000
_LONGEST_GLOBAL = 200


def save(content: dict[str, Any], path: Path, *, keep_previous: bool = False) -> int:
    """Write a checkpoint to a temporary name, fsync it and rename it; return its size in bytes.

    Args:
        content: tensors, and dicts, lists and plain values of them.
        path: the final name.
        keep_previous: let what `path` held before live on as `NAME.prev.pt`. Between the two renames only that is
            there, and `load_last` takes it.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.writing")
    fd = files.open_file(temporary, os.O_WRONLY | os.O_TRUNC)
    try:
        with os.fdopen(fd, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
            num_bytes = file.tell()
    except BaseException as error:
        temporary.unlink(missing_ok=True)  # on a full disk its room is wanted
        if (behind := files.os_error_in(error)) is not None:  # torch wraps what its file raises
            raise behind from None
        raise
    if keep_previous and path.exists():
        path.replace(path.with_name(f"{path.stem}.prev{path.suffix}"))
    temporary.replace(path)
    _sync_folder(path.parent)
    return num_bytes


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU; only tensors and plain values are admitted.

    Raises:
        CifartuiError: there is none, it is damaged, or it holds anything but tensors and plain values.
    """
    try:
        _check_names(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CifartuiError(f"There is no checkpoint {path}.") from None
    except Exception as error:  # what damaged bytes raise in torch is open-ended: IndexError, KeyError, struct.error …
        raise CifartuiError(f"The checkpoint {path} is damaged or not one of cifartui's and was not loaded.") from error
    if not isinstance(content, dict):
        raise CifartuiError(f"{path} is not a checkpoint of cifartui.")
    return content


def _check_names(path: Path) -> None:
    """Raise ValueError where a checkpoint names something so long that torch would take minutes to refuse it.

    torch looks for patterns in its own message, in time that grows with the square of the name's length.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith("data.pkl"):
                continue
            if member.file_size > _MOST_BYTES_OF_NAMES:
                raise ValueError("no checkpoint has so much besides its tensors")
            for opcode, argument, _ in pickletools.genops(archive.read(member)):
                is_long = opcode.name in {"GLOBAL", "INST"} and len(str(argument)) > _LONGEST_GLOBAL
                if is_long or opcode.name == "STACK_GLOBAL":
                    raise ValueError("a name that torch does not use")


def evaluated(state: dict[str, Any]) -> dict[str, Any]:
    """Return the weights in a checkpoint that the run evaluates: their moving average where it keeps one.

    Raises:
        KeyError: it holds no weights.
    """
    weights: dict[str, Any] = state["ema"] if "ema" in state else state["network"]
    return weights


def load_last(checkpoints: Path) -> tuple[dict[str, Any], str]:
    """Return the newest readable checkpoint to resume from, and a sentence where it is not last.pt.

    A last.pt that cannot be read is put aside as last.damaged: it must not replace the one before.

    Raises:
        CifartuiError: neither last.pt nor last.prev.pt can be read.
    """
    last, previous = checkpoints / "last.pt", checkpoints / "last.prev.pt"
    try:
        return load(last), ""
    except CifartuiError as error:
        if not previous.exists():
            raise
        content = load(previous)
        if last.exists():
            last.replace(last.with_suffix(".damaged"))
        return content, f"{error} Going on from last.prev.pt, the one before."
