"""Archives of images by a stranger: what they could write, and where."""

import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from engine.shared import image_archives
from engine.shared.image_archives import unpack
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
