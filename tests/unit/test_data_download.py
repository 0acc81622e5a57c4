import hashlib
import socket
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.data import download
from engine.data.download import fetch
from engine.data.load import load
from engine.journal.events import DataProgressed
from presets.errors import CifartuiError
from presets.schema import Data
from tests import http_server
from tests.cifar_files import cifar100_at, published_files, write_archive
from tests.http_server import Answer

Serve = Callable[..., str]


def ignore(event: DataProgressed) -> None:
    pass


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def start(content: bytes, *, status: int = 200, sent: int | None = None) -> str:
        server = http_server.serve(lambda _path: Answer(status, content, sent))
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/cifar-100-python.tar.gz"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARTUI_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))


def test_a_download_arrives_whole_and_is_reported(serve: Serve, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    events: list[DataProgressed] = []
    path = fetch(serve(content), md5(content), tmp_path / "new/archive.tar.gz", events.append)
    assert path.read_bytes() == content
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["archive.tar.gz"]
    assert (events[0].phase, events[0].done) == ("download", 0)
    assert (events[-1].done, events[-1].total) == (len(content), len(content))
    assert all(event.done <= len(content) for event in events)


def test_another_md5_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="another md5"):
        fetch(serve(b"something else"), md5(b"the archive"), tmp_path / "archive.tar.gz", ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_dropped_connection_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    content = b"x" * 1_000_000
    with pytest.raises(CifartuiError, match="failed"):
        fetch(serve(content, sent=300_000), md5(content), tmp_path / "archive.tar.gz", ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_no_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="the server answered 404 Not Found"):
        fetch(serve(b"not here", status=404), md5(b"not here"), tmp_path / "archive.tar.gz", ignore)
    assert list(tmp_path.iterdir()) == []


def test_stopping_during_a_download_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    content = b"x" * 2_000_000

    def stop(event: DataProgressed) -> None:
        if event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(serve(content), md5(content), tmp_path / "archive.tar.gz", stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_gives_a_sentence(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CifartuiError, match="failed"):
        fetch(serve(b""), md5(b""), tmp_path / "file/archive.tar.gz", ignore)


def test_absent_data_is_downloaded_and_loaded(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "made.tar.gz", "cifar-100-python", published_files()).read_bytes()
    monkeypatch.setitem(download.PUBLISHED, "cifar100", cifar100_at(serve(archive), md5(archive)))
    events: list[DataProgressed] = []
    data = load(Data(dataset="cifar100"), str(tmp_path / "data"), 0, events.append)
    assert len(data.train) == 36
    assert data.source == str(tmp_path / "data/cifar-100-python.tar.gz")
    assert list(dict.fromkeys(event.phase for event in events)) == ["download", "unpack"]
    load(Data(dataset="cifar100"), None, 0, ignore)
    assert (tmp_path / "user-data/cifartui/cifar-100-python.tar.gz").is_file()


def test_offline_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
    monkeypatch.setitem(download.PUBLISHED, "cifar100", cifar100_at(url, ""))
    with pytest.raises(CifartuiError, match=r"CIFAR-100 is not in .* failed .*cifartui train demo"):
        load(Data(dataset="cifar100"), str(tmp_path), 0, ignore)
    assert list(tmp_path.iterdir()) == []
