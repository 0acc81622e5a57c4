"""CIFAR-100 read once: what a second start takes from the cache, and when it does not."""

import os
from pathlib import Path

import pytest
import torch

import engine.data.cifar
from engine.data.load import load
from engine.data.sets import DataSet
from presets.errors import CifartuiError
from presets.schema import Data
from tests.cifar_files import published_files, write_archive, write_folder

CIFAR = Data(dataset="cifar100")


@pytest.fixture(params=["archive", "folder"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "archive":
        write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", published_files())
    else:
        write_folder(tmp_path / "cifar-100-python", published_files())
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFARTUI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cifar100"


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every file of the data set that is read."""
    read, names = engine.data.cifar._read_member, []

    def counted(stream: object, name: str, *rest: object) -> object:
        names.append(name)
        return read(stream, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.data.cifar, "_read_member", counted)
    return names


def read(data_dir: Path) -> DataSet:
    return load(CIFAR, str(data_dir), 0, lambda _event: None)


def same(one: DataSet, other: DataSet) -> bool:
    splits = zip((one.train, one.val, one.test), (other.train, other.val, other.test), strict=True)
    are_equal = all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in splits)
    return are_equal and (one.class_names, one.notices, one.source) == (other.class_names, other.notices, other.source)


def test_a_second_start_opens_no_file_and_has_the_same(data_dir: Path, cache: Path, readings: list[str]) -> None:
    first = read(data_dir)
    assert len(readings) == 3
    second = read(data_dir)
    assert len(readings) == 3
    assert same(first, second)
    second.train.images.zero_()  # what is handed out is nobody else's
    assert same(first, read(data_dir))


def test_nobody_else_can_read_it(data_dir: Path, cache: Path) -> None:
    read(data_dir)
    (folder,) = cache.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_a_changed_file_is_read_anew_and_the_old_cache_goes(data_dir: Path, cache: Path, readings: list[str]) -> None:
    read(data_dir)
    (before,) = cache.iterdir()
    archive = data_dir / "cifar-100-python.tar.gz"
    os.utime(archive if archive.exists() else data_dir / "cifar-100-python" / "test", ns=(1, 1))
    read(data_dir)
    assert len(readings) == 6
    (after,) = cache.iterdir()
    assert after != before


@pytest.mark.parametrize("name", ["train-images.npy", "test-labels.npy", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "nonsense"])
def test_a_damaged_cache_is_made_anew(data_dir: Path, cache: Path, readings: list[str], name: str, damage: str) -> None:
    first = read(data_dir)
    (folder,) = cache.iterdir()
    if damage == "cut":
        os.truncate(folder / name, (folder / name).stat().st_size // 2)
    elif damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"nonsense")
    assert same(first, read(data_dir))
    assert len(readings) == 6
    assert same(first, read(data_dir))
    assert len(readings) == 6  # and is whole again


def test_where_no_cache_can_be_written_the_data_is_read(data_dir: Path, cache: Path, readings: list[str]) -> None:
    cache.parent.write_bytes(b"a file where a folder should be")
    assert same(read(data_dir), read(data_dir))
    assert len(readings) == 6


def test_nothing_half_written_stays_when_the_disk_is_full(
    data_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.data.cifar_cache.os.fsync", full)
    assert len(read(data_dir).train) == 36
    assert list(cache.iterdir()) == []


def test_what_is_refused_is_not_kept(cache: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "cifar-100-python", {**published_files(), "train": b"no pickle"})
    for _ in range(2):
        with pytest.raises(CifartuiError, match="damaged"):
            read(tmp_path)
    assert not cache.exists() or list(cache.iterdir()) == []
