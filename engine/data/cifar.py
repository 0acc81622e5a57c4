"""CIFAR-100 in its published "python version", and in the course's packaging of it: files to tensors.

Knows the layout of both; knows nothing of where they are (`engine.shared.data_locations`) or of downloading.
"""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from engine.data.cifar_cache import Content, Rows, kept
from engine.data.progress import LoadProgress, Report
from engine.data.safe_pickle import load_pickle
from engine.data.sets import DataSet, ImageSplit, split_rows
from engine.shared.data_locations import COURSE_SUFFIX, MEMBER_MD5, Location
from presets.errors import CifartuiError
from presets.schema import Data

_CHUNK_BYTES = 1 << 20
_MAX_MEMBER_BYTES = 1 << 30  # seven times the largest file of CIFAR-100
_NUM_CLASSES = 100

_CLASS_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CLASS_NAMES: tuple[str, ...] = tuple(_CLASS_NAMES.split())
"""The published fine label names in label order, for the course's packaging, which has no `meta`."""


@dataclass(frozen=True)
class _Member:
    """A file of the data set: its name without folders, its bytes, and their md5 in hex."""

    name: str
    content: bytes
    md5: str


def load_cifar100(location: Location, data: Data, seed: int, report: Report) -> DataSet:
    """Read CIFAR-100 from the archive or folder that `location` names.

    Args:
        location: of kind archive, folder, course-archive or course-folder.
        data: how to divide the training file.
        seed: see `split_rows`.
        report: is told of every phase; what it raises ends the reading.

    Raises:
        CifartuiError: a file is missing, damaged, hostile or of another shape.
    """
    assert location.path is not None
    path = Path(location.path)
    is_archive = location.kind.endswith("archive")
    read = _read_archive if is_archive else _read_folder
    content = kept([path] if is_archive else _files(path), lambda: _content(read(path, report), path))
    train, test = content.train, content.test
    train_rows, val_rows = split_rows(len(train.labels), data, seed)
    is_hidden = not test.labels.any()
    return DataSet(
        name="cifar100",
        source=str(path),
        generated=False,
        train=_split(train, train_rows[: data.train_limit]),
        val=_split(train, val_rows),
        test=_split(test, torch.arange(len(test.labels))),
        class_names=content.class_names,
        test_labels_hidden=is_hidden,
        notices=_notices(content, is_hidden),
    )


def _content(members: dict[str, _Member], path: Path) -> Content:
    missing = [role for role in ("train", "test") if role not in members]
    if missing:
        raise CifartuiError(f"{path} has no file {missing[0]} inside, so it is not CIFAR-100; fetch it again.")
    return Content(
        train=_rows(members["train"], path),
        test=_rows(members["test"], path),
        class_names=_class_names(members.get("meta"), path),
        md5={member.name: member.md5 for member in members.values()},
    )


def _read_archive(path: Path, report: Report) -> dict[str, _Member]:
    """Return the members by role, straight from the stream: gunzip, tar and md5 in one pass."""
    members: dict[str, _Member] = {}
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped:
            progress = LoadProgress(report, "unpack", "B", path.name, path.stat().st_size)
            with tarfile.open(fileobj=unzipped, mode="r|", bufsize=_CHUNK_BYTES) as archive:
                for entry in archive:
                    role = _role(entry.name)
                    stream = archive.extractfile(entry) if role and entry.isreg() else None
                    if stream is not None:
                        members[role] = _read_member(
                            stream, entry.name, entry.size, lambda _: progress.move_to(raw.tell())
                        )  # fmt: skip
            progress.finish()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _unreadable(path, error) from error
    return members


def _read_folder(path: Path, report: Report) -> dict[str, _Member]:
    """Return the files by role."""
    files = _files(path)
    members: dict[str, _Member] = {}
    try:
        sizes = [file.stat().st_size for file in files]
        progress = LoadProgress(report, "verify", "B", str(path), sum(sizes))
        for file, size in zip(files, sizes, strict=True):
            with file.open("rb") as stream:
                members[_role(file.name)] = _read_member(stream, file.name, size, progress.advance)
        progress.finish()
    except OSError as error:
        raise _unreadable(path, error) from error
    return members


def _files(path: Path) -> list[Path]:
    """Return the files of a folder. Where both packagings share it, the published one goes first."""
    suffix = "" if (path / "train").is_file() else COURSE_SUFFIX
    return [path / name for name in (f"train{suffix}", f"test{suffix}", "meta") if (path / name).is_file()]


def _role(name: str) -> str:
    """Return train, test or meta for the name of such a file, and "" for any other."""
    role = name.rpartition("/")[2].removesuffix(COURSE_SUFFIX)
    return role if role in ("train", "test", "meta") else ""


def _read_member(stream: IO[bytes], name: str, size: int, on_chunk: Callable[[int], None]) -> _Member:
    if size > _MAX_MEMBER_BYTES:
        raise CifartuiError(f"{name} is {size / 1e9:.1f} GB, far larger than any file of CIFAR-100; fetch it again.")
    chunks: list[bytes] = []
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := stream.read(_CHUNK_BYTES):
        chunks.append(chunk)
        digest.update(chunk)
        on_chunk(len(chunk))
    return _Member(name.rpartition("/")[2], b"".join(chunks), digest.hexdigest())


def _unreadable(path: Path, error: Exception) -> CifartuiError:
    if isinstance(error, OSError) and error.errno is not None:
        return CifartuiError(f"{path} could not be read: {error.strerror}.")
    return CifartuiError(f"{path} is damaged or incomplete ({error}); delete it and fetch it again.")


def _rows(member: _Member, path: Path) -> Rows:
    """Return a file's images and labels after checking their shapes."""
    what = f"{path}: {member.name}"
    content = load_pickle(member.content, what, is_known=MEMBER_MD5.get(member.name) == member.md5)
    images, labels = content.get("data"), content.get("fine_labels", content.get("labels"))
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != 3 * 32 * 32 or not len(images):
        raise CifartuiError(f"{what} has no images of 3×32×32 bytes under data; fetch it again.")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < _NUM_CLASSES for label in labels):
        raise CifartuiError(f"{what} has no labels from 0 to 99 under fine_labels or labels; fetch it again.")
    if len(labels) != len(images):
        raise CifartuiError(f"{what} has {len(images):,} images but {len(labels):,} labels; fetch it again.")
    return Rows(images, np.array(labels, np.int64))


def _split(file: Rows, rows: torch.Tensor) -> ImageSplit:
    images, labels = (torch.from_numpy(array[rows.numpy()]) for array in file)  # copies, so that the file can go
    return ImageSplit(images.view(-1, 3, 32, 32), labels)


def _class_names(meta: _Member | None, path: Path) -> tuple[str, ...]:
    if meta is None:
        return CLASS_NAMES
    names: Any = load_pickle(meta.content, f"{path}: {meta.name}").get("fine_label_names")
    is_list = isinstance(names, list) and len(names) == _NUM_CLASSES
    if not is_list or not all(isinstance(name, bytes | str) for name in names):
        raise CifartuiError(f"{path}: {meta.name} has no 100 names under fine_label_names; fetch it again.")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else name for name in names)


def _notices(content: Content, is_hidden: bool) -> tuple[str, ...]:
    notices = []
    differing = [name for name, md5 in content.md5.items() if MEMBER_MD5.get(name) != md5]
    if differing:
        notices.append(
            f"{', '.join(differing)} of this CIFAR-100 differ from the published md5; they loaded and have "
            f"the right shape ({len(content.train.labels):,} and {len(content.test.labels):,} images)."
        )
    if is_hidden:
        notices.append("The test labels of this packaging are hidden (all 0), so there is no test accuracy.")
    return tuple(notices)
