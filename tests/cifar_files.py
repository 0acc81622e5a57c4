"""Tiny files in CIFAR-100's layouts, with content that tests can check."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from engine.shared.published_sets import PUBLISHED, PublishedFile, PublishedSet


def cifar100_at(url: str, md5: str) -> PublishedSet:
    """Return CIFAR-100 as if its archive were published at an address."""
    return structs.replace(PUBLISHED["cifar100"], files=(PublishedFile(url, md5),))


def rows(num_images: int, first: int = 0) -> dict[bytes, Any]:
    """Return the dictionary of a train or test file: image i has all bytes i % 251, and label i % 100."""
    numbers = np.arange(first, first + num_images)
    return {
        b"filenames": [b"image_%d.png" % number for number in numbers],
        b"batch_label": b"a batch",
        b"fine_labels": [int(number % 100) for number in numbers],
        b"data": np.repeat((numbers % 251).astype(np.uint8)[:, None], 3072, axis=1),
    }


def course_rows(num_images: int, *, are_labels_hidden: bool = False) -> dict[bytes, Any]:
    """Return the same as the course packs it."""
    content = rows(num_images)
    labels = content.pop(b"fine_labels")
    return {**content, b"labels": [0] * num_images if are_labels_hidden else labels}


def pickled(content: Any) -> bytes:
    """Return a pickle of protocol 2, the one that Python 2 wrote."""
    return pickle.dumps(content, protocol=2)


def published_files(num_train: int = 40, num_test: int = 12) -> dict[str, bytes]:
    """Return the files of the published layout by name."""
    names = [b"class_%02d" % index for index in range(100)]
    return {
        "train": pickled(rows(num_train)),
        "test": pickled(rows(num_test, first=1)),
        "meta": pickled({b"fine_label_names": names, b"coarse_label_names": []}),
    }


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    """Write files into folder/ of a new .tar.gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
