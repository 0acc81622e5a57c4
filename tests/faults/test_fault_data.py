"""Servers that misbehave, archives that are not whole, images that are none, files that would run code."""

import io
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.data import download
from engine.data.load import load
from engine.data.safe_pickle import load_pickle
from engine.data.sets import DataSet
from engine.journal.events import DataProgressed
from engine.training import checkpoint_files
from presets.errors import CifartuiError
from presets.schema import Data
from tests.bird_files import save, write_class_folders
from tests.cifar_files import cifar100_at, published_files, write_archive
from tests.faults.serving import Serve
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARTUI_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return write_archive(tmp_path / "made.tar.gz", "cifar-100-python", published_files()).read_bytes()


def fetched(
    data_dir: Path,
    server: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    report: Callable[[DataProgressed], None] = lambda event: None,
) -> DataSet:
    monkeypatch.setitem(download.PUBLISHED, "cifar100", cifar100_at(server["url"], server["md5"]))
    data_dir.mkdir(exist_ok=True)
    return load(Data(dataset="cifar100"), str(data_dir), 0, report)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 503}, "the server answered 503 Service Unavailable"),
        ({"sent": 1000}, "the connection broke off"),
        ({"md5": "0" * 32}, "has another md5 than the published one"),
    ],
)
def test_a_download_that_fails_says_why_and_what_to_do_and_starts_again(
    serve: Serve, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, object], words: str
) -> None:
    md5 = fault.pop("md5", None)
    server = serve.url(archive, **fault)  # type: ignore[arg-type]
    with pytest.raises(CifartuiError) as failed:
        fetched(tmp_path / "data", server | ({"md5": str(md5)} if md5 else {}), monkeypatch)
    assert words in str(failed.value)
    assert "cifartui train demo" in str(failed.value)
    assert list((tmp_path / "data").iterdir()) == []
    assert len(fetched(tmp_path / "data", serve.url(archive), monkeypatch).train) == 36


def test_a_slow_server_shows_progress_and_stops_when_asked(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(1_000_000)
    told: list[DataProgressed] = []
    monkeypatch.setattr("engine.data.progress._INTERVAL_S", 0.0)

    def report(event: DataProgressed) -> None:
        told.append(event)
        if event.done >= 400_000:
            raise KeyboardInterrupt

    def fetch() -> None:
        with pytest.raises(KeyboardInterrupt):
            fetched(tmp_path / "data", serve.url(content, pieces=10), monkeypatch, report)
        told.append(DataProgressed(phase="download", done=0, total=0, unit="B", what="ended"))

    thread = threading.Thread(target=fetch)
    thread.start()
    wait_for(lambda: any(0 < event.done <= 100_000 for event in told), "progress while the server waits", patience_s=10)
    assert told[-1].total == len(content)
    serve.more.release(4)
    thread.join(10)
    assert told[-1].what == "ended"
    assert list((tmp_path / "data").iterdir()) == []


def test_a_killed_download_is_swept_away_by_the_next(
    serve: Serve, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".cifar-100-python.tar.gz.4194305.part").write_bytes(archive[:100])
    os.utime(tmp_path / "data" / ".cifar-100-python.tar.gz.4194305.part", (1, 1))
    fetched(tmp_path / "data", serve.url(archive), monkeypatch)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cifar-100-python.tar.gz"]


def test_half_an_archive_says_to_fetch_it_again(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive[: len(archive) // 2])
    with pytest.raises(CifartuiError, match=r"is damaged or incomplete .*; delete it and fetch it again"):
        load(Data(dataset="cifar100"), str(tmp_path), 0, lambda event: None)


def png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_images_that_are_none_are_left_out_and_named(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path)
    whole = io.BytesIO()
    save(tmp_path / "whole.jpg", (9, 9, 9), (64, 64))
    whole.write((tmp_path / "whole.jpg").read_bytes())
    broken = {
        "00.jpg": whole.getvalue()[: len(whole.getvalue()) // 2],
        "01.jpg": b"",
        "02.jpg": b"<html>404 Not Found</html>",
        "03.jpg": png(12_000, 12_000),
        "04.jpg": png(200_000, 200_000),
    }
    for name, content in broken.items():
        (root / "train/001.Crow" / name).write_bytes(content)
    told = load(Data(dataset="class-folders", path=str(root), image_size=8), None, 0, lambda event: None)
    assert told.notices[1:] == (
        "The class 001.Crow has no validation image; put images of each class into val/, or set data.validation=0.2.",
    )
    assert told.notices[0].startswith("5 of 36 images cannot be read and are left out: ")
    assert all(f"train/001.Crow/{name}" in told.notices[0] for name in broken)
    assert len(told.train) + len(told.val) == 30 - 5


@pytest.mark.parametrize("damage", ["cut", "other bytes", "another thing"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "last.pt"
    checkpoint_files.save({"network": {"w": torch.zeros(1000)}}, path)
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[: len(content) // 2], "other bytes": bytes(100), "another thing": b"hello"}[damage]
    )
    with pytest.raises(CifartuiError, match=r"The checkpoint .*last\.pt is damaged or not one of cifartui's"):
        checkpoint_files.load(path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('it ran')",))


def test_a_hostile_checkpoint_and_a_hostile_pickle_run_nothing(tmp_path: Path) -> None:
    torch.save({"network": Evil()}, tmp_path / "last.pt")
    with pytest.raises(CifartuiError, match="was not loaded"):
        checkpoint_files.load(tmp_path / "last.pt")
    with pytest.raises(CifartuiError, match=r"asks Python to run builtins\.exec.*was not loaded"):
        load_pickle(pickle.dumps({b"data": Evil()}, protocol=4), "the file train")
