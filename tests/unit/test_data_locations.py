import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from engine.shared.data_locations import Kind, locate, search_folders
from engine.shared.published_sets import PUBLISHED
from presets.schema import Data

CIFAR = Data(dataset="cifar100")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARTUI_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_are_searched_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARTUI_DATA", str(tmp_path / "env"))
    user = platformdirs.user_data_path("cifartui")
    assert search_folders(str(tmp_path / "option")) == [tmp_path / "option", tmp_path / "env", user]
    assert search_folders(str(tmp_path / "env")) == [tmp_path / "env", user]
    monkeypatch.setenv("CIFARTUI_DATA", "")
    assert search_folders(None) == [user]
    assert search_folders("~/data")[0] == Path.home() / "data"


@pytest.mark.parametrize(
    ("files", "kind", "found"),
    [
        (["cifar-100-python.tar.gz"], "archive", "cifar-100-python.tar.gz"),
        (["cifar-100-python/train", "cifar-100-python/test"], "folder", "cifar-100-python"),
        (["train", "test", "meta"], "folder", "."),
        (["cifar100.tar.gz"], "course-archive", "cifar100.tar.gz"),
        (["cifar100/train_cs543", "cifar100/test_cs543"], "course-folder", "cifar100"),
        (
            ["cifar-100-cs543-python/train_cs543", "cifar-100-cs543-python/test_cs543"],
            "course-folder",
            "cifar-100-cs543-python",
        ),
        (["train_cs543", "test_cs543"], "course-folder", "."),
        (["cifar100.tar.gz", "cifar-100-python.tar.gz"], "archive", "cifar-100-python.tar.gz"),
        (["cifar-100-python/train", "cifar-100-python.tar.gz"], "archive", "cifar-100-python.tar.gz"),
    ],
)
def test_every_layout_of_cifar100_is_found(files: list[str], kind: Kind, found: str, tmp_path: Path) -> None:
    touch(*(tmp_path / file for file in files))
    location = locate(CIFAR, str(tmp_path))
    assert (location.kind, location.path) == (kind, str(tmp_path / found))
    assert str(tmp_path / found) in location.text
    assert "\n" not in location.text


def test_an_earlier_folder_goes_before_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARTUI_DATA", str(tmp_path / "env"))
    touch(tmp_path / "env/cifar-100-python/train", tmp_path / "env/cifar-100-python/test")
    touch(tmp_path / "option/cifar100.tar.gz")
    assert locate(CIFAR, str(tmp_path / "option")).kind == "course-archive"
    assert locate(CIFAR, None).kind == "folder"


def test_a_named_path_is_the_only_place(tmp_path: Path) -> None:
    touch(tmp_path / "cifar-100-python.tar.gz", tmp_path / "other.tar.gz", tmp_path / "sub/cifar100.tar.gz")
    file = locate(Data(dataset="cifar100", path=str(tmp_path / "other.tar.gz")), str(tmp_path))
    assert (file.kind, file.path) == ("archive", str(tmp_path / "other.tar.gz"))
    relative = locate(Data(dataset="cifar100", path="sub"), str(tmp_path))
    assert (relative.kind, relative.path) == ("course-archive", str(tmp_path / "sub/cifar100.tar.gz"))
    nothing = locate(Data(dataset="cifar100", path=str(tmp_path / "gone")), str(tmp_path))
    assert nothing.kind == "absent"
    assert str(tmp_path / "gone") in nothing.text


def test_class_folders_need_folders_under_train(tmp_path: Path) -> None:
    data = Data(dataset="class-folders", path=str(tmp_path / "birds"))
    touch(tmp_path / "birds/train/notes.txt")
    absent = locate(data, None)
    assert (absent.kind, "put some there or name another folder" in absent.text) == ("absent", True)
    touch(tmp_path / "birds/train/wren/1.jpg")
    one = locate(data, None)
    assert (one.kind, "one class only, wren" in one.text) == ("absent", True)
    touch(tmp_path / "birds/train/crow/below/1.jpg", tmp_path / "birds/train/empty/notes.txt")
    found = locate(data, None)
    assert (found.kind, found.num_classes) == ("class-folders", 2)
    gone = locate(Data(dataset="class-folders", path=str(tmp_path / "gone")), None)
    assert (gone.kind, gone.text) == ("absent", f"there is no {tmp_path / 'gone'}")
    assert "--data" in gone.advice


def test_folders_without_parts_and_tables_are_found(tmp_path: Path) -> None:
    touch(tmp_path / "birds/wren/1.jpg", tmp_path / "birds/crow/1.jpg", tmp_path / "birds/gull/1.jpg")
    assert locate(Data(dataset="class-folders", path=str(tmp_path / "birds")), None).num_classes == 3
    (tmp_path / "labels.csv").write_text("file,label\n1,a\n2,b\n")
    assert locate(Data(dataset="class-folders", path=str(tmp_path), labels="labels.csv"), None).num_classes == 2
    assert locate(Data(dataset="class-folders", path=str(tmp_path / "labels.csv")), None).num_classes == 2


def test_absence_says_what_to_do(tmp_path: Path) -> None:
    location = locate(CIFAR, str(tmp_path))
    assert (location.kind, location.path) == ("absent", None)
    (archive,) = PUBLISHED["cifar100"].files
    for said in (archive.url, archive.md5, str(tmp_path), "cifartui train demo"):
        assert said in location.advice


def test_shapes_are_generated() -> None:
    assert locate(Data(dataset="shapes100"), None).kind == "generated"


def test_a_folder_that_may_not_be_entered_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert locate(CIFAR, str(tmp_path)).kind == "absent"
    assert locate(Data(dataset="class-folders"), str(tmp_path)).kind == "absent"


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, engine.shared.data_locations; print(sorted({'torch', 'numpy', 'pooch', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
