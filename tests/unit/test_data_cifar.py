import gzip
import hashlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import engine.data.cifar
from engine.data.cifar import CLASS_NAMES
from engine.data.load import load
from engine.journal.events import DataProgressed
from presets.errors import CifartuiError
from presets.schema import Data
from tests.cifar_files import course_rows, pickled, published_files, rows, write_archive, write_folder

CIFAR = Data(dataset="cifar100")


def ignore(event: DataProgressed) -> None:
    pass


@pytest.fixture(params=["archive", "folder"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "archive":
        write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", published_files())
    else:
        write_folder(tmp_path / "cifar-100-python", published_files())
    return str(tmp_path)


def test_images_labels_and_names_arrive_as_they_are(data_dir: str) -> None:
    data = load(CIFAR, data_dir, 0, ignore)
    assert (data.name, data.generated, data.test_labels_hidden) == ("cifar100", False, False)
    assert data.class_names == tuple(f"class_{index:02d}" for index in range(100))
    assert data.train.labels.tolist() == [row for row in range(40) if row % 10]
    assert data.val.labels.tolist() == [0, 10, 20, 30]
    assert data.test.labels.tolist() == list(range(1, 13))
    for split in (data.train, data.val, data.test):
        assert split.images.shape == (len(split), 3, 32, 32)
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert split.images.is_contiguous()
        assert torch.equal(split.images[:, 2, 31, 31].long(), split.labels)


def test_planes_are_red_green_blue(tmp_path: Path) -> None:
    content = {**rows(20), b"data": np.tile(np.repeat(np.array([1, 2, 3], np.uint8), 1024), (20, 1))}
    write_folder(tmp_path, {**published_files(), "train": pickled(content)})
    image = load(CIFAR, str(tmp_path), 0, ignore).train.images[0]
    assert [set(plane.flatten().tolist()) for plane in image] == [{1}, {2}, {3}]


def test_another_md5_is_a_notice_and_the_published_one_is_none(data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (notice,) = load(CIFAR, data_dir, 0, ignore).notices
    assert notice.startswith("train, test, meta of this")
    assert "differ from the published md5; they loaded and have the right shape (40 and 12 images)" in notice
    files = published_files()
    published = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(engine.data.cifar, "MEMBER_MD5", published)
    assert load(CIFAR, data_dir, 0, ignore).notices == ()


@pytest.mark.parametrize("where", ["cifar100", "cifar-100-cs543-python", "cifar100.tar.gz"])
def test_the_course_packaging_has_hidden_test_labels(where: str, tmp_path: Path) -> None:
    files = {
        "train_cs543": pickled(course_rows(40)),
        "test_cs543": pickled(course_rows(12, are_labels_hidden=True)),
    }
    if where.endswith("gz"):
        write_archive(tmp_path / where, "cifar100", files)
    else:
        write_folder(tmp_path / where, files)
    data = load(CIFAR, str(tmp_path), 0, ignore)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 12)
    assert data.test_labels_hidden
    assert "hidden" in data.notices[1]
    assert data.class_names == CLASS_NAMES


def test_progress_begins_at_nothing_and_ends_with_all(data_dir: str) -> None:
    events: list[DataProgressed] = []
    load(CIFAR, data_dir, 0, events.append)
    assert events[0].done == 0
    assert events[-1].done == events[-1].total > 0
    assert {event.unit for event in events} == {"B"}


def test_a_report_that_raises_ends_the_reading(data_dir: str) -> None:
    def stop(event: DataProgressed) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(CIFAR, data_dir, 0, stop)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({**rows(40), b"data": np.zeros((40, 3071), np.uint8)}, "no images of 3×32×32"),
        ({**rows(40), b"data": b"bytes"}, "no images"),
        ({**rows(40), b"fine_labels": [100] * 40}, "no labels from 0 to 99"),
        ({**rows(40), b"fine_labels": [-1] * 40}, "no labels from 0 to 99"),
        ({**rows(40), b"fine_labels": ["cat"] * 40}, "no labels from 0 to 99"),
        ({b"data": rows(40)[b"data"]}, "no labels"),
        ({**rows(40), b"fine_labels": [1] * 39}, "40 images but 39 labels"),
    ],
)
def test_another_shape_is_refused(content: dict[bytes, Any], sentence: str, tmp_path: Path) -> None:
    write_folder(tmp_path, {**published_files(), "train": pickled(content)})
    with pytest.raises(CifartuiError, match=sentence):
        load(CIFAR, str(tmp_path), 0, ignore)


@pytest.mark.parametrize("names", [[b"one"], ["a", 1] * 50, None])
def test_meta_without_a_hundred_names_is_refused(names: Any, tmp_path: Path) -> None:
    write_folder(tmp_path, {**published_files(), "meta": pickled({b"fine_label_names": names})})
    with pytest.raises(CifartuiError, match="no 100 names"):
        load(CIFAR, str(tmp_path), 0, ignore)


def test_a_damaged_archive_gives_a_sentence(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", published_files())
    whole = archive.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", b"not gzip", whole[:middle], whole[:-3], whole[:middle] + b"\0" * 40 + whole[middle + 40 :]):
        archive.write_bytes(damaged)
        with pytest.raises(CifartuiError, match=r"cifar-100-python.*(damaged|is not CIFAR-100)"):
            load(CIFAR, str(tmp_path), 0, ignore)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-100-python.tar.gz", "other", {"readme": b"hello"})
    with pytest.raises(CifartuiError, match="no file train inside"):
        load(CIFAR, str(tmp_path), 0, ignore)


def test_an_archive_that_would_unpack_to_terabytes_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("cifar-100-python/train")
    entry.size = 1 << 40
    with gzip.open(tmp_path / "cifar-100-python.tar.gz", "wb") as file:
        file.write(entry.tobuf() + b"\0" * 1024)
    with pytest.raises(CifartuiError, match="far larger than any file of CIFAR-100"):
        load(CIFAR, str(tmp_path), 0, ignore)


def test_nothing_is_downloaded_for_a_path_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match=r"CIFAR-100 is not in .*gone.*cifartui train demo"):
        load(Data(dataset="cifar100", path="gone"), str(tmp_path), 0, ignore)


@pytest.mark.real_data
def test_the_real_data_set(cifar100_dir: Path) -> None:
    events: list[DataProgressed] = []
    data = load(CIFAR, str(cifar100_dir), 0, events.append)
    assert (len(data.train), len(data.val), len(data.test)) == (45_000, 5_000, 10_000)
    assert data.class_names == CLASS_NAMES
    assert torch.bincount(data.test.labels).tolist() == [100] * 100
    assert torch.bincount(torch.cat((data.train.labels, data.val.labels))).tolist() == [500] * 100
    pixels = torch.cat((data.train.images, data.val.images)).float() / 255
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor([0.5071, 0.4865, 0.4409]), atol=2e-4, rtol=0)
    assert len(events) > 3
