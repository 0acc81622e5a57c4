"""Checkpoints on disk: tensors and plain values, written whole or not at all, read without running code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine import files
from engine.models.tensor_files import load_tensors
from engine.training.checkpoint_checks import OtherVersionError, check_plain
from presets.errors import CifartuiError


def save(content: dict[str, Any], path: Path, *, keep_previous: bool = False) -> int:
    """Write a checkpoint to a temporary name, fsync it and rename it; return its size in bytes.

    Args:
        content: tensors, and dicts, lists and plain values of them.
        path: the final name.
        keep_previous: let what `path` held before live on as `NAME.prev.pt`. Between the two renames only that is
            there, and `load_last` takes it.

    Raises:
        OSError: it cannot be written, or its folder is a link; what was there before stays.
    """
    files.check_no_link(path.parent)
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
    files.sync_folder(path.parent)
    return num_bytes


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU; only tensors and plain values are admitted.

    Raises:
        CifartuiError: there is none, it is damaged, a link or another user's, or it holds anything but tensors and
            plain values.
    """
    try:
        with os.fdopen(files.open_ours(path), "rb") as file:
            content = load_tensors(file)
        check_plain(content)
    except FileNotFoundError:
        raise CifartuiError(f"There is no checkpoint {path}.") from None
    except OSError as error:
        raise CifartuiError(f"The checkpoint {path} was not loaded: {error.strerror or error}.") from error
    except Exception as error:  # what damaged bytes raise in torch is open-ended: IndexError, KeyError, struct.error …
        raise CifartuiError(f"The checkpoint {path} is damaged or not one of cifartui's and was not loaded.") from error
    if not isinstance(content, dict):
        raise CifartuiError(f"{path} is not a checkpoint of cifartui.")
    return content


def evaluated(state: dict[str, Any]) -> dict[str, Any]:
    """Return the weights in a checkpoint that the run evaluates: their moving average where it keeps one.

    Raises:
        KeyError: it holds no weights.
    """
    weights: dict[str, Any] = state["ema"] if "ema" in state else state["network"]
    return weights


def load_last(checkpoints: Path, check: Callable[[dict[str, Any]], object] | None = None) -> tuple[dict[str, Any], str]:
    """Return the newest usable checkpoint to resume from, and a sentence if it is not last.pt.

    A last.pt that cannot be used is put aside as last.damaged: it must not replace the one before.

    Args:
        checkpoints: the folder.
        check: raises CifartuiError if a checkpoint's content does not belong to the run, or holds no usable numbers.

    Raises:
        CifartuiError: neither last.pt nor last.prev.pt can be used.
    """
    last, previous = checkpoints / "last.pt", checkpoints / "last.prev.pt"
    try:
        return _checked(last, check), ""
    except OtherVersionError:
        raise
    except CifartuiError as error:
        if not previous.exists():
            raise
        try:
            content = _checked(previous, check)
        except CifartuiError as other:
            raise error if last.exists() else other from None
        if last.exists():
            last.replace(last.with_suffix(".damaged"))
        return content, f"{error} Going on from last.prev.pt, the one before."


def _checked(path: Path, check: Callable[[dict[str, Any]], object] | None) -> dict[str, Any]:
    content = load(path)
    if check is not None:
        check(content)
    return content
