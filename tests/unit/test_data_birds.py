"""The birds in every published form, and what is refused."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.data.load import load
from engine.data.sets import DataSet
from engine.journal.events import DataProgressed
from engine.shared.cache_folder import cache_folder
from engine.shared.data_locations import locate
from presets.errors import CifartuiError
from presets.schema import Data
from tests.bird_files import NAMES, write_2010, write_2010_archives, write_2011, write_class_folders


def birds(data_dir: Path, **more: object) -> DataSet:
    values = {"image_size": 8, **more}
    return load(Data(dataset="cub200", **values), str(data_dir), 0, lambda event: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (write_2010, "cub-2010-folder"),
        (write_2010_archives, "cub-2010-archives"),
        (write_2011, "cub-2011-folder"),
    ],
)
def test_every_form_gives_the_same_birds(tmp_path: Path, write: Callable[[Path], Path], kind: str) -> None:
    write(tmp_path / "data")
    assert locate(Data(dataset="cub200"), str(tmp_path / "data")).kind == kind
    found = birds(tmp_path / "data")
    folders = birds(tmp_path, path=str(write_class_folders(tmp_path / "folders")))
    assert found.class_names == folders.class_names == NAMES
    assert found.name == folders.name == "cub200"
    assert (len(found.train), len(found.val), len(found.test)) == (27, 3, 6)
    for ours, theirs in ((found.train, folders.train), (found.val, folders.val), (found.test, folders.test)):
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.images, theirs.images)


def test_absent_birds_say_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match=r"images\.tgz and lists\.tgz") as caught:
        birds(tmp_path)
    assert "data.path" in str(caught.value)


def test_an_unnamed_folder_of_other_images_is_not_taken_for_birds(tmp_path: Path) -> None:
    write_class_folders(tmp_path).rename(tmp_path / "train")
    assert locate(Data(dataset="cub200"), str(tmp_path)).kind == "absent"


def test_archives_are_unpacked_once(tmp_path: Path) -> None:
    write_2010_archives(tmp_path)
    phases: list[str] = []
    for _ in range(2):
        phases.append("start")
        load(Data(dataset="cub200", image_size=8), str(tmp_path), 0, lambda event: phases.append(event.phase))
    first, second = " ".join(phases).split("start")[1:]
    assert "unpack" in first
    assert "unpack" not in second


def test_the_copy_of_archives_that_have_changed_is_removed(tmp_path: Path) -> None:
    write_2010_archives(tmp_path)
    load(Data(dataset="cub200", path=str(tmp_path), image_size=8), None, 0, lambda event: None)
    os.utime(tmp_path / "lists.tgz", (1, 1))
    load(Data(dataset="cub200", path=str(tmp_path), image_size=8), None, 0, lambda event: None)
    assert len(list(cache_folder().glob("cub-200-2010-*"))) == 1


def test_what_an_archive_should_not_hold_is_not_written(tmp_path: Path) -> None:
    write_2010_archives(tmp_path / "data")
    with tarfile.open(tmp_path / "data" / "images.tgz", "w:gz") as tar:
        for name in (
            "images/../../../evil.jpg",
            "/etc/evil.jpg",
            "images/a/b/deep.jpg",
            "evil.py",
            "images/001.Crow/00.jpg",
        ):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("images/001.Crow/01.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(CifartuiError, match=r"cannot be read, .*\(not there\)"):
        birds(tmp_path / "data")
    (unpacked,) = cache_folder().glob("cub-200-2010-*")
    written = [path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file() and path.name[0] != "."]
    assert {path.parts[0] for path in written} == {"images", "lists"}
    assert [path.name for path in written if path.parts[0] == "images"] == ["00.jpg"]
    assert not list(tmp_path.rglob("evil*"))


def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_2010_archives(tmp_path)
    whole = (tmp_path / "images.tgz").read_bytes()
    (tmp_path / "images.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CifartuiError, match="fetch a damaged one again"):
        birds(tmp_path)
    assert list(cache_folder().iterdir()) == []


def test_a_stop_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    write_2010_archives(tmp_path)

    def stop(event: DataProgressed) -> None:
        if event.phase == "unpack":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(Data(dataset="cub200"), str(tmp_path), 0, stop)
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize(
    ("table", "text", "words"),
    [
        ("images.txt", "1 ../../etc/passwd.jpg\n", "do not name the same images"),
        ("train_test_split.txt", "", "is empty"),
        ("image_class_labels.txt", "one two\n", 'is not "number value"'),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, table: str, text: str, words: str) -> None:
    (write_2011(tmp_path) / table).write_text(text)
    with pytest.raises(CifartuiError, match=words):
        birds(tmp_path)


def test_a_listed_path_may_not_leave_the_folder(tmp_path: Path) -> None:
    folder = write_2010(tmp_path)
    (folder / "lists/train.txt").write_text("../secret.jpg\n")
    with pytest.raises(CifartuiError, match=r"not of the form class/file\.jpg"):
        birds(tmp_path)
