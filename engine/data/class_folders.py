"""Folders of images by class: train/<class>/*, test/<class>/*, perhaps val/<class>/*; files to tensors.

Images are decoded by Pillow in a few threads, and brought to one size where they differ.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from engine.data.progress import Progress, Report
from engine.data.sets import DataSet, ImageSplit, split_rows
from engine.locate import Location
from presets.errors import CifartuiError
from presets.schema import Data

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_NUM_THREADS = 4
_BROKEN_ALLOWED = 10
_BROKEN_FRACTION = 0.01
_BROKEN_NAMED = 10


@dataclass(frozen=True)
class _Files:
    """Image files and their class indices, sorted by class and name."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def take(self, rows: torch.Tensor) -> "_Files":
        chosen = rows.tolist()
        return _Files(tuple(self.paths[row] for row in chosen), tuple(self.labels[row] for row in chosen))


def load_class_folders(location: Location, data: Data, seed: int, report: Report) -> DataSet:
    """Read folders of images.

    Images become `data.image_size` squares: shorter side resized (antialiased bilinear), centre cropped.

    Args:
        location: of kind class-folders.
        data: image size, and how to divide the training images where there is no val/.
        seed: see `split_rows`.
        report: is told of every image; what it raises ends the reading.

    Raises:
        CifartuiError: test/ is missing, a class is unknown, or too many images cannot be read.
    """
    assert location.path is not None
    root = Path(location.path)
    try:
        class_names = tuple(sorted(folder.name for folder in _folders(root / "train")))
        listed = {name: _list_files(root / name, class_names) for name in ("train", "val", "test")}
    except OSError as error:
        raise CifartuiError(f"{error.filename} could not be read: {error.strerror}.") from error
    for name in ("train", "test"):
        if not listed[name].paths:
            raise CifartuiError(f"{root} has no images in {name}/<class>/; put some there or name another data.path.")
    splits = _divide(listed, data, seed)
    num_images = sum(len(files.paths) for files in splits.values())
    progress = Progress(report, "decode", "images", str(root), num_images)
    decoded: dict[str, ImageSplit] = {}
    broken: list[str] = []
    for name, files in splits.items():
        decoded[name], unread = _decode(files, data.image_size, root, progress)
        broken += unread
    progress.finish()
    notices = _notices(root, broken, num_images)
    if not all(len(split) for split in decoded.values()):
        raise CifartuiError(f"No image of a whole split can be read in {root}, {broken[0]} first; mend or remove them.")
    return DataSet(
        name="class-folders",
        source=str(root),
        generated=False,
        train=decoded["train"],
        val=decoded["val"],
        test=decoded["test"],
        class_names=class_names,
        notices=notices,
    )


def _folders(place: Path) -> list[Path]:
    return [child for child in place.iterdir() if child.is_dir() and not child.name.startswith(".")]


def _list_files(place: Path, class_names: tuple[str, ...]) -> _Files:
    if not place.is_dir():
        return _Files((), ())
    paths: list[Path] = []
    labels: list[int] = []
    for folder in sorted(_folders(place)):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
        if folder.name not in class_names:
            raise CifartuiError(f"{folder} is a class that train/ does not have; add it there or remove it here.")
        paths += files
        labels += [class_names.index(folder.name)] * len(files)
    return _Files(tuple(paths), tuple(labels))


def _divide(listed: dict[str, _Files], data: Data, seed: int) -> dict[str, _Files]:
    """Choose files before any is decoded. A limit takes them from all classes, the same ones in every run."""
    train, val = listed["train"], listed["val"]
    if not val.paths:
        train_rows, val_rows = split_rows(len(train.paths), data, seed)
        train, val = train.take(train_rows), train.take(val_rows)
    if data.train_limit is not None:
        mixed = torch.randperm(len(train.paths), generator=torch.Generator().manual_seed(0))
        train = train.take(mixed[: data.train_limit].sort().values)
    return {"train": train, "val": val, "test": listed["test"]}


def _decode(files: _Files, size: int, root: Path, progress: Progress) -> tuple[ImageSplit, list[str]]:
    """Return the images that can be read, and the names of the others."""
    pixels = np.empty((len(files.paths), 3, size, size), dtype=np.uint8)

    def decode_row(row: int) -> bool:
        try:
            pixels[row] = _read_image(files.paths[row], size)
        except Exception:  # what Pillow's many readers raise on damaged bytes is open-ended
            return False
        return True

    pool = ThreadPoolExecutor(_NUM_THREADS)  # Pillow releases the interpreter while it decodes
    try:
        is_read: list[bool] = []
        for row_is_read in pool.map(decode_row, range(len(files.paths))):
            is_read.append(row_is_read)
            progress.advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    rows = torch.tensor(is_read, dtype=torch.bool).nonzero().flatten()
    broken = [str(path.relative_to(root)) for path, good in zip(files.paths, is_read, strict=True) if not good]
    images = torch.from_numpy(pixels)
    labels = torch.tensor(files.labels, dtype=torch.int64)
    return ImageSplit(images[rows] if broken else images, labels[rows]), broken


def _read_image(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 [3, size, size]."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return np.moveaxis(pixels, 2, 0)


def _notices(root: Path, broken: list[str], num_images: int) -> tuple[str, ...]:
    """Return what to say of images that cannot be read.

    Raises:
        CifartuiError: they are too many to go on without.
    """
    if not broken:
        return ()
    if len(broken) > max(_BROKEN_ALLOWED, _BROKEN_FRACTION * num_images) or len(broken) == num_images:
        raise CifartuiError(
            f"{len(broken):,} of {num_images:,} images in {root} cannot be read, {broken[0]} first; "
            "mend or remove them."
        )  # fmt: skip
    named = ", ".join(broken[:_BROKEN_NAMED]) + (" …" if len(broken) > _BROKEN_NAMED else "")
    return (f"{len(broken)} of {num_images:,} images cannot be read and are left out: {named}.",)
