"""Reader of MNIST's idx files, gzipped or not: MNIST and Fashion-MNIST as tensors."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine import files
from engine.data.progress import LoadProgress, Report
from engine.data.sets import DataSet, ImageSplit, split_rows
from engine.shared.data_locations import Location, idx_files
from engine.shared.data_path import taken_for_mnist
from engine.shared.published_sets import unlike_published
from presets.errors import CifartuiError
from presets.schema import Data

_UINT8 = 8
"""Type of the samples, in an idx file's third byte."""
_MOST_BYTES = 1 << 30
"""Of a file that is unpacked: twenty times MNIST's largest."""
_CHUNK_BYTES = 1 << 20
_NUM_CLASSES = 10

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "mnist": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "fashion-mnist": (
        "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip


def load_idx(location: Location, data: Data, seed: int, report: Report) -> DataSet:
    """Read MNIST or Fashion-MNIST; the one channel of their images becomes three equal ones.

    Args:
        location: of kind idx-folder.
        data: how to divide the training files.
        seed: see `split_rows`.
        report: called with the bytes read; an exception of it ends the reading.

    Raises:
        CifartuiError: a file is damaged, or of another shape.
    """
    assert location.path is not None
    paths = idx_files(Path(location.path))
    progress = LoadProgress(report, "unpack", "B", location.path, sum(path.stat().st_size for path in paths.values()))
    train, test = (_split(paths[f"{part}-images"], paths[f"{part}-labels"], progress) for part in ("train", "t10k"))
    progress.finish()
    train_rows, val_rows = split_rows(len(train), data, seed)
    return DataSet(
        name=location.dataset,
        source=location.path,
        generated=False,
        train=_rows(train, train_rows[: data.train_limit]),
        val=_rows(train, val_rows),
        test=_rows(test, torch.arange(len(test))),
        class_names=CLASS_NAMES[location.dataset],
        notices=(
            *(taken_for_mnist(Path(location.path)) if location.dataset == "mnist" else ()),
            *unlike_published(location.dataset, location.kind, len(train), 0, len(test), _NUM_CLASSES),
        ),
    )


def _rows(split: ImageSplit, rows: torch.Tensor) -> ImageSplit:
    """Return some rows of a split, with the one channel three times."""
    return ImageSplit(split.images[rows].expand(-1, 3, -1, -1).contiguous(), split.labels[rows])


def _split(images: Path, labels: Path, progress: LoadProgress) -> ImageSplit:
    """Return images uint8 [N, 1, H, W] and their labels."""
    pixels, numbers = _read_idx(images, 3, progress), _read_idx(labels, 1, progress)
    if len(pixels) != len(numbers) or not pixels.size:
        raise CifartuiError(
            f"{images} has {len(pixels):,} images but {labels} {len(numbers):,} labels; fetch them again."
        )
    if numbers.max() >= _NUM_CLASSES:
        raise CifartuiError(f"{labels} has a label {numbers.max()}, where the classes are 0 to 9; fetch it again.")
    return ImageSplit(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(numbers.astype(np.int64)))


def _read_idx(path: Path, num_dimensions: int, progress: LoadProgress) -> npt.NDArray[np.uint8]:
    """Return the array in an idx file.

    Raises:
        CifartuiError: it cannot be read, is damaged, or holds no bytes in so many dimensions.
    """
    before = progress.done
    try:
        with os.fdopen(files.open_to_read(path), "rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            chunks, num_bytes = [], 0
            while chunk := file.read(_CHUNK_BYTES):
                chunks.append(chunk)
                num_bytes += len(chunk)
                progress.move_to(before + raw.tell())
                if num_bytes > _MOST_BYTES:
                    raise CifartuiError(f"{path} unpacks to far more than any file of MNIST; fetch it again.")
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise CifartuiError(f"{path} could not be read: {error.strerror}.") from error
        raise CifartuiError(f"{path} is damaged or incomplete ({error}); delete it and fetch it again.") from error
    content = b"".join(chunks)
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * num_dimensions], ">u4").tolist())
    start = 4 + 4 * num_dimensions
    is_idx = content[:4] == bytes((0, 0, _UINT8, num_dimensions)) and len(shape) == num_dimensions
    if not is_idx or math.prod(shape) != len(content) - start:
        raise CifartuiError(
            f"{path} is no idx file of bytes in {num_dimensions} dimensions, or not whole; fetch it again."
        )
    return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)  # a copy, which torch may write to
