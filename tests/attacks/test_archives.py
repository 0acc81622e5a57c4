"""Archives of images by a stranger: what they could write, and where."""

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine.data import archives, cifar
from engine.shared import data_path, image_archives
from engine.shared.image_archives import check_archive, unpack
from engine.shared.image_listing import list_images
from presets.errors import CifartuiError
from tests.unit.test_image_archives import FILES, make, written


def test_what_could_do_harm_is_not_written(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    make(archive, (*FILES, "../evil.jpg", "/etc/evil.jpg", "train/cat/../../../evil.jpg", f"train/cat/{'x' * 300}.jpg"))
    with tarfile.open(archive, "a") as tar:
        for name, kind in (
            ("train/cat/link.jpg", tarfile.SYMTYPE), ("train/cat/hard.jpg", tarfile.LNKTYPE),
            ("train/cat/pipe.jpg", tarfile.FIFOTYPE), ("train/cat/null.jpg", tarfile.CHRTYPE),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    found = list_images(archive)
    assert found.train.names == FILES[:3]
    assert written() == [".left-out.json", ".source", *sorted(FILES)]
    assert not list(tmp_path.rglob("evil*"))
    assert "2 files in train/cat are not read (a link)." in found.notices
    assert "2 files in train/cat are not read (not a regular file)." in found.notices
    assert any("3 files in" in notice and "outside of the archive's folder" in notice for notice in found.notices)
    assert any("its name is too long" in notice for notice in found.notices)


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    archive = make(tmp_path / "x.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        link = zipfile.ZipInfo("train/cat/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    assert "train/cat/link.jpg is not read (a link)." in list_images(archive).notices


def test_an_archive_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_archives, "_KEPT_FREE_BYTES", 1000)
    monkeypatch.setattr(image_archives, "_MOST_GROWTH", 2)
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("cat/1.jpg", bytes(1_000_000))
    with pytest.raises(CifartuiError, match="larger unpacked than there is room for"):
        unpack(archive)
    assert written() == []


def _header(kind: bytes, num_bytes: int) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, num_bytes
    return member.tobuf(tarfile.GNU_FORMAT)


def _sparse(tmp_path: Path) -> bytes:
    """Return a tar whose only file says that its content is a terabyte, in the form of GNU tar 1.15 and newer."""
    path = tmp_path / "sparse"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as opened:
        member = tarfile.TarInfo("cat/1.jpg")
        member.size = 512
        member.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "cat/1.jpg",
            "GNU.sparse.realsize": str(1 << 40),
        }  # fmt: skip
        opened.addfile(member, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    return path.read_bytes()


def _global_names(number: int) -> bytes:
    """Return headers that hold for all files behind them, each with a name that no other has."""
    lines = [b"17 c%08d=abc\n" % place for place in range(number)]
    assert {len(line) for line in lines} == {17}
    return b"".join(_header(tarfile.XGLTYPE, len(line)) + line.ljust(512, b"\0") for line in lines)


_IN_MEMORY = [
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
]  # fmt: skip


@pytest.fixture(params=[*_IN_MEMORY, "old sparse", "sparse", "global"], ids=str)
def hoard(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A packed tar of some kilobytes, the reading of which would take as much memory as it says, or without end."""
    match request.param:
        case "old sparse":
            content = _header(tarfile.GNUTYPE_SPARSE, 512) + bytes(512)
        case "sparse":
            content = _sparse(tmp_path)
        case "global":
            content = _global_names(1000)
        case kind:
            content = _header(kind, 64_000_000) + bytes(64_000_000)
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(content, 9))
    return path


@contextmanager
def little_memory() -> Iterator[None]:
    """Check that no more than 30 MB were taken at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_a_tar_that_would_fill_the_memory_is_refused(hoard: Path) -> None:
    with little_memory():
        with pytest.raises(CifartuiError, match="could not be unpacked"):
            unpack(hoard)
        for look in (check_archive, data_path.known_data):
            with suppress(CifartuiError):
                look(hoard)
    assert written() == []


def _unpack_published(path: Path) -> None:
    archives.unpack("flowers-102", [path], lambda *_: None)


def _read_cifar(path: Path) -> None:
    cifar._read_archive(path, cifar._LAYOUTS["cifar10"], lambda *_: None)


@pytest.mark.parametrize("read", [_unpack_published, _read_cifar])
def test_a_published_archive_does_not_fill_the_memory_either(read: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(_header(tarfile.XHDTYPE, 64_000_000) + bytes(64_000_000), 9))
    with little_memory(), pytest.raises(CifartuiError, match=r"could not be unpacked|is damaged"):
        read(path)


def test_the_headers_of_many_files_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tarfile keeps a kilobyte for each: twenty gigabytes for as many images as are read."""
    kept: list[int] = []
    stream = image_archives._stream
    monkeypatch.setattr(
        image_archives, "_stream", lambda tar, member: kept.append(len(tar.members)) or stream(tar, member)
    )
    unpack(make(tmp_path / "x.tar"))
    assert kept == [0] * len(FILES)


def test_folders_that_lie_too_deep_are_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    """Python's own functions for folders call themselves for each of them, and a path has an end."""
    archive = tmp_path / "x.tar"
    deep = (f"{'a/' * 900}1.jpg", f"{'a/' * 5000}1.jpg", f"{'a/' * 100}1.jpg", f"{'b' * 200}/" * 6 + "1.jpg")
    make(archive, (*FILES, *deep))
    unpacked = unpack(archive)
    assert {unread.reason for unread in unpacked.unread} == {"its folders lie too deep"}
    assert sum(unread.num_files for unread in unpacked.unread) == 4
    assert all((unpacked.folder / name).is_file() for name in FILES)
