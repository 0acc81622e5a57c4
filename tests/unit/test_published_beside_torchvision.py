"""Published data sets beside torchvision's own readers: the same images in the same order, with the same labels."""

import io
import pickle
import struct
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from engine.data.load import load
from engine.data.sets import DataSet, ImageSplit
from engine.shared import data_locations
from presets.schema import Data
from tests.cifar_files import write_folder
from tests.unit.test_published_sets import CIFAR10, idx, mat, write_idx

datasets: Any = pytest.importorskip("torchvision.datasets")
RANDOM = np.random.default_rng(0)
SIDE = 24
Pair = tuple[npt.NDArray[np.uint8], int]


@pytest.fixture(autouse=True)
def any_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision take files that are not the published ones, and let nothing else be found."""
    for module in ("cifar", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    monkeypatch.delenv("CIFARTUI_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.setattr(data_locations, "DEBIAN_FASHION", tmp_path / "nowhere")


def ours(dataset: str, folder: Path, image_size: int = SIDE) -> DataSet:
    return load(Data(dataset=dataset, image_size=image_size), str(folder), 0, lambda event: None)  # type: ignore[arg-type]


def theirs(data: Any, rows: Sequence[int] | None = None) -> list[Pair]:
    """Return images [H, W, 3] and labels of a data set of torchvision's: of its own `__getitem__`."""
    pairs = (data[row] for row in (range(len(data)) if rows is None else rows))
    return [(np.asarray(image.convert("RGB")), int(label)) for image, label in pairs]


def assert_same(found: ImageSplit | None, wanted: list[Pair]) -> None:
    assert found is not None
    assert found.labels.tolist() == [label for _, label in wanted]
    assert torch.equal(found.images, torch.from_numpy(np.stack([image for image, _ in wanted])).permute(0, 3, 1, 2))


def trained(number: int) -> tuple[list[int], list[int]]:
    """Return the rows that are trained on, and those held back to validate: every tenth."""
    return [row for row in range(number) if row % 10], [row for row in range(number) if row % 10 == 0]


def words(names: Sequence[str]) -> list[str]:
    """Return class names in lower case; torchvision's of MNIST have their number before them."""
    return [name.lower().rpartition(" - ")[2] for name in names]


class _Python2(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes bytes as Python 2 wrote its strings, as they are in the published files."""

    def save_string(self, text: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)

    dispatch: ClassVar[dict[type, Any]] = {**pickle._Pickler.dispatch, bytes: save_string}  # type: ignore[attr-defined]


def as_python2(content: object) -> bytes:
    file = io.BytesIO()
    _Python2(file, protocol=2).dump(content)
    return file.getvalue()


def test_cifar10(tmp_path: Path) -> None:
    files = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        content = {"labels": RANDOM.integers(0, 10, 7).tolist(), "data": RANDOM.integers(0, 256, (7, 3072), np.uint8)}
        files[name] = as_python2({key.encode(): value for key, value in content.items()})
    files["batches.meta"] = as_python2({b"label_names": [name.encode() for name in CIFAR10]})
    write_folder(tmp_path / "cifar-10-batches-py", files)
    data, train = ours("cifar10", tmp_path), datasets.CIFAR10(tmp_path)
    for split, rows in zip((data.train, data.val), trained(35), strict=True):
        assert_same(split, theirs(train, rows))
    assert_same(data.test, theirs(datasets.CIFAR10(tmp_path, train=False)))
    assert list(data.class_names) == train.classes


@pytest.mark.parametrize(("dataset", "reader"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files(tmp_path: Path, dataset: str, reader: str) -> None:
    files = {}
    for part, number in (("train", 30), ("t10k", 12)):
        files[f"{part}-images-idx3-ubyte"] = idx(RANDOM.integers(0, 256, (number, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(RANDOM.integers(0, 10, number).astype(np.uint8))
    write_idx(tmp_path / reader / "raw", files, zipped=False)
    data, train = ours(dataset, tmp_path), getattr(datasets, reader)(tmp_path)
    for split, rows in zip((data.train, data.val), trained(30), strict=True):
        assert_same(split, theirs(train, rows))
    assert_same(data.test, theirs(getattr(datasets, reader)(tmp_path, train=False)))
    assert words(data.class_names) == words(train.classes)


def photographs(names: Sequence[str]) -> dict[str, bytes]:
    """Return JPEG files in colour, and one in grey, all of SIDE pixels, so that none is resized."""
    found = {}
    for number, name in enumerate(names):
        file = io.BytesIO()
        image = Image.fromarray(RANDOM.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        (image.convert("L") if number == 2 else image).save(file, "JPEG", quality=90)
        found[name] = file.getvalue()
    return found


def test_flowers102(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = RANDOM.integers(1, 103, 12).astype(np.uint8)
    sets = {"trnid": [6, 2, 11, 1], "valid": [7, 3], "tstid": [12, 4, 5, 10, 9, 8]}
    vectors = {name: np.array(rows, np.uint16) for name, rows in sets.items()}
    write_folder(tmp_path / "flowers-102/jpg", photographs([f"image_{row:05d}.jpg" for row in range(1, 13)]))
    tables = {"imagelabels.mat": mat({"labels": labels}), "setid.mat": mat(vectors)}  # type: ignore[dict-item]
    write_folder(tmp_path / "flowers-102", tables)
    scipy = types.ModuleType("scipy.io")  # which torchvision reads the tables with, and we do not need
    contents = {"imagelabels.mat": {"labels": labels}, "setid.mat": vectors}
    scipy.loadmat = lambda path, **_: contents[Path(path).name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scipy.io", scipy)
    data = ours("flowers102", tmp_path)
    for split, name in ((data.train, "train"), (data.val, "val"), (data.test, "test")):
        assert_same(split, theirs(datasets.Flowers102(tmp_path, split=name)))


def test_oxford_pets(tmp_path: Path) -> None:
    breeds = ("Abyssinian", "american_bulldog", "Egyptian_Mau")
    lines = {"trainval": [], "test": []}  # type: dict[str, list[str]]
    for part, numbers in (("trainval", range(1, 15)), ("test", range(15, 18))):
        lines[part] = [f"{breed}_{n} {label} 1 1" for label, breed in enumerate(breeds, 1) for n in numbers]
        RANDOM.shuffle(lines[part])
    root = tmp_path / "oxford-iiit-pet"
    write_folder(root / "annotations", {f"{part}.txt": "\n".join(rows).encode() for part, rows in lines.items()})
    names = [f"{line.split()[0]}.jpg" for rows in lines.values() for line in rows]
    write_folder(root / "images", photographs(names))
    data, trainval = ours("oxford-pets", tmp_path), datasets.OxfordIIITPet(tmp_path)
    assert_same(data.test, theirs(datasets.OxfordIIITPet(tmp_path, split="test")))
    place = {f"images/{line.split()[0]}.jpg": row for row, line in enumerate(lines["trainval"])}
    rows = [[place[name] for name in split.names] for split in (data.train, data.val)]
    assert sorted(rows[0] + rows[1]) == [*range(42)]
    assert rows == [sorted(each) for each in rows], "in the order of the table"
    for split, chosen in zip((data.train, data.val), rows, strict=True):
        assert_same(split, theirs(trainval, chosen))
    assert list(data.class_names) == trainval.classes
