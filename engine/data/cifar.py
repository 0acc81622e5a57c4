"""Reader of CIFAR-100 and CIFAR-10 in their "python version", and of the course's packaging: files to tensors.

No search for them (`engine.shared.data_locations`), no download.
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

from engine.data.cifar_cache import Content, Rows, cached
from engine.data.progress import LoadProgress, Report
from engine.data.safe_pickle import load_pickle
from engine.data.sets import HIDDEN_TEST, DataSet, ImageSplit, split_rows
from engine.shared.data_locations import CIFAR10_BATCHES, COURSE_SUFFIX, MEMBER_MD5, Location
from engine.shared.image_archives import TarMember
from presets.errors import CifartuiError
from presets.schema import Data

_CHUNK_BYTES = 1 << 20
_MAX_MEMBER_BYTES = 1 << 30  # seven times the largest file of CIFAR-100

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
class _Layout:
    """Files of a data set, and what is in them."""

    title: str
    roles: dict[str, str]
    """train, test or meta, by the name of a file."""
    labels: tuple[str, ...]
    """Keys under which labels may be."""
    names: str
    """Key of the class names."""
    class_names: tuple[str, ...]
    """In label order, for a packaging without them."""


_LAYOUTS = {
    "cifar100": _Layout(
        title="CIFAR-100",
        roles={"train": "train", "test": "test", "meta": "meta"},
        labels=("fine_labels", "labels"),
        names="fine_label_names",
        class_names=CLASS_NAMES,
    ),
    "cifar10": _Layout(
        title="CIFAR-10",
        roles={**dict.fromkeys(CIFAR10_BATCHES, "train"), "test_batch": "test", "batches.meta": "meta"},
        labels=("labels",),
        names="label_names",
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """A file of the data set: its name without folders, its bytes, and their md5 in hex."""

    name: str
    content: bytes
    md5: str


def load_cifar(location: Location, data: Data, seed: int, report: Report) -> DataSet:
    """Read CIFAR-100 or CIFAR-10 from the archive or folder that `location` names.

    Args:
        location: of kind archive, folder, course-archive or course-folder.
        data: how to divide the training images.
        seed: see `split_rows`.
        report: called with every phase; an exception of it ends the reading.

    Raises:
        CifartuiError: a file is missing, damaged, hostile or of another shape.
    """
    assert location.path is not None
    path = Path(location.path)
    layout = _LAYOUTS[location.dataset]
    is_archive = location.kind.endswith("archive")
    read = _read_archive if is_archive else _read_folder
    content = cached(
        location.dataset,
        [path] if is_archive else _files(path, layout),
        lambda: _content(read(path, layout, report), layout, path),
    )
    train, test = content.train, content.test
    train_rows, val_rows = split_rows(len(train.labels), data, seed)
    is_hidden = not test.labels.any()
    return DataSet(
        name=location.dataset,
        source=str(path),
        generated=False,
        train=_split(train, train_rows[: data.train_limit]),
        val=_split(train, val_rows),
        test=_split(test, torch.arange(len(test.labels))),
        class_names=content.class_names,
        test_labels_hidden=is_hidden,
        notices=_notices(content, layout, is_hidden),
    )


def _content(members: dict[str, _Member], layout: _Layout, path: Path) -> Content:
    missing = [name for name, role in layout.roles.items() if role != "meta" and name not in members]
    if missing:
        raise CifartuiError(f"{path} has no file {missing[0]} inside, so it is not {layout.title}; fetch it again.")
    rows = {name: _rows(members[name], layout, path) for name, role in layout.roles.items() if role != "meta"}
    train = [rows[name] for name, role in layout.roles.items() if role == "train"]
    (test,) = (rows[name] for name, role in layout.roles.items() if role == "test")
    (meta,) = (members.get(name) for name, role in layout.roles.items() if role == "meta")
    return Content(
        train=train[0] if len(train) == 1 else Rows(*(np.concatenate(arrays) for arrays in zip(*train, strict=True))),
        test=test,
        class_names=_class_names(meta, layout, path),
        md5={member.name: member.md5 for member in members.values()},
    )


def _read_archive(path: Path, layout: _Layout, report: Report) -> dict[str, _Member]:
    """Return the members by their usual name, straight from the stream: gunzip, tar and md5 in one pass."""
    members: dict[str, _Member] = {}
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped:
            progress = LoadProgress(report, "unpack", "B", path.name, path.stat().st_size)
            with tarfile.open(fileobj=unzipped, mode="r|", bufsize=_CHUNK_BYTES, tarinfo=TarMember) as archive:
                for entry in archive:
                    name = _usual_name(entry.name, layout)
                    stream = archive.extractfile(entry) if name and entry.isreg() else None
                    if stream is not None:
                        members[name] = _read_member(
                            stream, layout, entry.name, entry.size, lambda _: progress.move_to(raw.tell())
                        )  # fmt: skip
            progress.finish()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _unreadable(path, error) from error
    return members


def _read_folder(path: Path, layout: _Layout, report: Report) -> dict[str, _Member]:
    """Return the files by their usual name."""
    files = _files(path, layout)
    members: dict[str, _Member] = {}
    try:
        sizes = [file.stat().st_size for file in files]
        progress = LoadProgress(report, "verify", "B", str(path), sum(sizes))
        for file, size in zip(files, sizes, strict=True):
            with file.open("rb") as stream:
                members[_usual_name(file.name, layout)] = _read_member(
                    stream, layout, file.name, size, progress.advance
                )
        progress.finish()
    except OSError as error:
        raise _unreadable(path, error) from error
    return members


def _files(path: Path, layout: _Layout) -> list[Path]:
    """Return the files of a folder; the published packaging goes first if both are in it."""
    names = [*layout.roles]
    if not (path / names[0]).is_file():
        names = [name if role == "meta" else f"{name}{COURSE_SUFFIX}" for name, role in layout.roles.items()]
    return [path / name for name in names if (path / name).is_file()]


def _usual_name(name: str, layout: _Layout) -> str:
    """Return a file's name without folders and the course's suffix, and "" if it is none of the data set's."""
    usual = name.rpartition("/")[2].removesuffix(COURSE_SUFFIX)
    return usual if usual in layout.roles else ""


def _read_member(stream: IO[bytes], layout: _Layout, name: str, size: int, on_chunk: Callable[[int], None]) -> _Member:
    if size > _MAX_MEMBER_BYTES:
        raise CifartuiError(
            f"{name} is {size / 1e9:.1f} GB, far larger than any file of {layout.title}; fetch it again."
        )
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


def _rows(member: _Member, layout: _Layout, path: Path) -> Rows:
    """Return a file's images and labels after checking their shapes."""
    what = f"{path}: {member.name}"
    content = load_pickle(member.content, what, is_known=MEMBER_MD5.get(member.name) == member.md5)
    images, labels = content.get("data"), next((content[key] for key in layout.labels if key in content), None)
    num_classes = len(layout.class_names)
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != 3 * 32 * 32 or not len(images):
        raise CifartuiError(f"{what} has no images of 3×32×32 bytes under data; fetch it again.")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < num_classes for label in labels):
        keys = " or ".join(layout.labels)
        raise CifartuiError(f"{what} has no labels from 0 to {num_classes - 1} under {keys}; fetch it again.")
    if len(labels) != len(images):
        raise CifartuiError(f"{what} has {len(images):,} images but {len(labels):,} labels; fetch it again.")
    return Rows(images, np.array(labels, np.int64))


def _split(file: Rows, rows: torch.Tensor) -> ImageSplit:
    images, labels = (torch.from_numpy(array[rows.numpy()]) for array in file)  # copies, so that the file can go
    return ImageSplit(images.view(-1, 3, 32, 32), labels)


def _class_names(meta: _Member | None, layout: _Layout, path: Path) -> tuple[str, ...]:
    if meta is None:
        return layout.class_names
    names: Any = load_pickle(meta.content, f"{path}: {meta.name}").get(layout.names)
    num_classes = len(layout.class_names)
    is_list = isinstance(names, list) and len(names) == num_classes
    if not is_list or not all(isinstance(name, bytes | str) for name in names):
        raise CifartuiError(f"{path}: {meta.name} has no {num_classes} names under {layout.names}; fetch it again.")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else name for name in names)


def _notices(content: Content, layout: _Layout, is_hidden: bool) -> tuple[str, ...]:
    notices = []
    differing = [name for name, md5 in content.md5.items() if MEMBER_MD5.get(name) != md5]
    if differing:
        notices.append(
            f"{', '.join(differing)} of this {layout.title} differ from the published md5; they loaded and have "
            f"the right shape ({len(content.train.labels):,} and {len(content.test.labels):,} images)."
        )
    if is_hidden:
        notices.append(HIDDEN_TEST)
    return tuple(notices)
