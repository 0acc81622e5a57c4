"""Layouts of folders of images: what is read of each, and what is said of the rest."""

import io
import itertools
import os
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, UnidentifiedImageError

from engine.shared.image_formats import Fault, fault_of, formats
from engine.shared.image_listing import list_images, num_classes
from engine.shared.image_parts import Files, Listing
from engine.shared.image_scan import is_junk, shown, suffix_of, why_not_read
from presets.errors import CifartuiError


def write(root: Path, *names: str) -> Path:
    """Make empty files; a name that ends in a slash is a folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"")
    return root


FLAT = ("cat/1.jpg", "cat/2.png", "dog/1.jpg")
TRAIN = tuple(f"train/{name}" for name in FLAT)


def counts(listing: Listing) -> tuple[int, int, int, int]:
    return len(listing.train), len(listing.val), len(listing.test), len(listing.unlabelled)


def test_class_folders_without_parts(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *FLAT))
    assert found.layout == "Class folders without parts: no validation part, no test part."
    assert found.class_names == ("cat", "dog")
    assert found.train == Files(("cat/1.jpg", "cat/2.png", "dog/1.jpg"), (0, 0, 1))
    assert counts(found) == (3, 0, 0, 0)
    assert (found.root, found.train_folder, found.notices, found.unread) == (tmp_path, "", (), ())


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "dev", "Valid", "VAL"])
def test_a_validation_part_by_any_of_its_names(tmp_path: Path, folder: str) -> None:
    found = list_images(write(tmp_path, *TRAIN, f"{folder}/cat/9.jpg", f"{folder}/dog/9.jpg"))
    assert found.layout == f"Class folders in train/ and {folder}/: no test part."
    assert found.val == Files((f"{folder}/cat/9.jpg", f"{folder}/dog/9.jpg"), (0, 1))
    assert (counts(found), found.train_folder) == ((3, 2, 0, 0), "train")


def test_three_parts(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *TRAIN, "val/cat/1.jpg", "val/dog/1.jpg", "test/dog/1.jpg", "test/cat/5.jpg"))
    assert found.layout == "Class folders in train/, val/ and test/."
    assert found.test == Files(("test/cat/5.jpg", "test/dog/1.jpg"), (0, 1))
    assert found.notices == ()


def test_training_and_testing(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, "Training/cat/1.jpg", "Training/dog/1.jpg", "Testing/cat/1.jpg"))
    assert found.layout == "Class folders in Training/ and Testing/: no validation part."
    assert found.notices == ("The class dog has no test image.",)


@pytest.mark.parametrize("folder", ["test", "test/images", "test/test", "test/unknown"])
def test_loose_test_images_have_no_labels(tmp_path: Path, folder: str) -> None:
    found = list_images(write(tmp_path, *TRAIN, f"{folder}/b.jpg", f"{folder}/a.jpg", f"{folder}/notes.txt"))
    assert found.unlabelled == (f"{folder}/a.jpg", f"{folder}/b.jpg")
    assert found.layout == "Class folders in train/ and test/: no validation part, a test part without labels."
    assert counts(found) == (3, 0, 0, 2)
    assert found.notices == (f"{folder}/notes.txt is not read (.txt: not an image format that is read).",)


def test_folders_below_a_class_are_the_class(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *FLAT, "cat/tabby/young/3.jpg", "cat/tabby/1.jpg"))
    assert found.train.names == ("cat/1.jpg", "cat/2.png", "cat/tabby/1.jpg", "cat/tabby/young/3.jpg", "dog/1.jpg")
    assert found.train.labels == (0, 0, 0, 0, 1)
    assert found.layout.startswith("Class folders without parts, with folders below a class:")


def test_a_folder_that_holds_all_the_others_is_entered(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *(f"animals/v2/{name}" for name in TRAIN), "__MACOSX/._x", ".DS_Store"))
    assert (found.root, found.train.names[0]) == (tmp_path / "animals/v2", "train/cat/1.jpg")


@pytest.mark.parametrize(
    "junk",
    [
        ".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "cat/._1.jpg", "__MACOSX/cat/1.jpg",
        "cat/@eaDir/1.jpg/thumb.jpg", "cat/.ipynb_checkpoints/1-checkpoint.jpg", "lost+found/1.jpg", "#recycle/1.jpg",
        "$RECYCLE.BIN/1.jpg", "System Volume Information/1.jpg", ".Trash-1000/1.jpg", ".git/1.jpg", "THUMBS.DB/1.jpg",
        "@Recycle/1.jpg", "@Recently-Snapshot/1.jpg", "@Transcode/1.jpg", "@tmp/1.jpg", "@SynoEAStream/1.jpg",
        "Network Trash Folder/1.jpg", "Temporary Items/1.jpg", "FOUND.000/1.jpg", "~snapshot/1.jpg", "aquota.user",
        "cat/1.jpg@SynoEAStream", "cat/1.jpg@SynoResource", "cat/1.jpg:Zone.Identifier", "cat/Picasa.ini",
        "cat/ZbThumbnail.info", "cat/~$1.jpg",
    ],
)  # fmt: skip
def test_junk_is_no_class_no_image_and_nothing_to_say(tmp_path: Path, junk: str) -> None:
    assert list_images(write(tmp_path, *FLAT, junk)) == list_images(write(tmp_path, *FLAT))
    found = list_images(tmp_path)
    assert (found.class_names, counts(found), found.unread) == (("cat", "dog"), (3, 0, 0, 0), ())


def test_what_is_not_read_is_counted_by_folder_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why_not_read.cache_clear()
    monkeypatch.setattr("engine.shared.image_scan.find_spec", lambda _module: None)
    photos = [f"train/cat/{number}.HEIC" for number in range(20)]
    found = list_images(write(tmp_path, *TRAIN, *photos, "train/dog/x.xml", "train/cat/y.xml", "train/cat/z.xml"))
    why_not_read.cache_clear()
    assert [(group.folder, group.reason, group.num_files) for group in found.unread] == [
        ("train/cat", ".heic: install pillow-heif", 20),
        ("train/cat", ".xml: not an image format that is read", 2),
        ("train/dog", ".xml: not an image format that is read", 1),
    ]
    assert found.notices == (
        "20 files in train/cat are not read (.heic: install pillow-heif).",
        "3 files in train/cat and train/dog are not read (.xml: not an image format that is read).",
    )


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (("Cat/1.jpg", "cat/1.jpg", "dog/1.jpg", "DOG/a.txt"), "{root}"),
        (("train/Cat/1.jpg", "train/cat/1.jpg", "val/cat/2.jpg", "val/Cat/2.jpg"), "train"),
    ],
)
def test_class_folders_that_differ_in_case_only_are_named(names: tuple[str, ...], where: str, tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *names))
    said = [notice for notice in found.notices if "upper and lower case" in notice]
    assert said == [
        f"{where.format(root=tmp_path.name)} has classes that differ in upper and lower case only, and are read as "
        "different ones: Cat / cat; if they are one, give both one name."
    ]


def test_a_folder_of_everything_is_said_in_a_few_sentences(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *FLAT, *(f"cat/x.e{number}" for number in range(30))))
    assert len(found.unread) == 30
    assert len(found.notices) == 11
    assert found.notices[-1] == "20 more files are not read, for 20 other reasons."


def test_a_file_without_extension_is_read_if_it_is_an_image(tmp_path: Path) -> None:
    write(tmp_path, *FLAT)
    (tmp_path / "cat/photo").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
    (tmp_path / "cat/St. Bernard 12").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (tmp_path / "cat/LICENSE").write_bytes(b"Copyright")
    found = list_images(tmp_path)
    assert found.train.names[2:4] == ("cat/St. Bernard 12", "cat/photo")
    assert found.notices == ("cat/LICENSE is not read (no extension: no image that is read inside).",)


@pytest.mark.parametrize("brand", ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"])
def test_heif_is_known_by_each_of_its_brands_with_and_without_an_extension(
    tmp_path: Path, brand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\0\0\0\x18ftyp" + brand.encode() + bytes(64)
    for name in ("cat/photo", "cat/x.jpg"):
        (write(tmp_path, *FLAT) / name).write_bytes(content)
    why_not_read.cache_clear()
    formats.cache_clear()
    with monkeypatch.context() as absent:
        absent.setattr("engine.shared.image_scan.find_spec", lambda _module: None)
        absent.setitem(sys.modules, "pillow_heif", None)
        absent.delitem(Image.OPEN, "HEIF", raising=False)
        found = list_images(tmp_path)
        assert found.notices == ("cat/photo is not read (.heic: install pillow-heif).",)
        assert fault_of(UnidentifiedImageError(), tmp_path / "cat/x.jpg") == Fault.NEEDS_HEIF
    why_not_read.cache_clear()
    formats.cache_clear()
    with monkeypatch.context() as present:
        present.setattr("engine.shared.image_scan.find_spec", lambda _module: object())
        assert "cat/photo" in list_images(tmp_path).train.names
    why_not_read.cache_clear()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.JPEG", ".jpeg"), ("a.b.png", ".png"), ("a", ""), ("a.", ""), ("v1.0", ""), ("x. y", ""), ("a.tar.gz", ".gz")],
)
def test_extensions(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


def test_an_empty_class_is_named_and_is_none(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *TRAIN, "train/owl/", "train/pig/notes.txt"))
    assert found.class_names == ("cat", "dog")
    assert found.notices[0] == "owl/ and pig/ in train have no image that is read, and are no classes."


def test_other_folders_beside_the_parts_are_named(tmp_path: Path) -> None:
    parts = (*TRAIN, "val/cat/1.jpg", "val/dog/1.jpg")
    found = list_images(write(tmp_path, *parts, "originals/a/1.jpg", "annotations/1.xml", "empty/"))
    assert found.notices == ("Beside train/ there is originals, which is not read.",)


def test_loose_images_beside_class_folders_are_said(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *TRAIN, "train/a.jpg", "train/b.jpg"))
    assert found.notices == ("2 files in train are not read (beside class folders, so of no class).",)


def test_an_empty_part_is_none(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *TRAIN, "val/cat/", "test/"))
    assert counts(found) == (3, 0, 0, 0)
    assert found.layout.endswith(": no validation part, no test part.")
    assert found.notices == (
        "val/ has no image that is read, and is no part.",
        "test/ has no image that is read, and is no part.",
    )


def test_a_class_without_a_validation_image_is_said(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *TRAIN, "val/cat/1.jpg"))
    assert found.notices == ("The class dog has no validation image.",)


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "has no class folders with images"),
        (["a.jpg", "b.jpg"], "The 2 images in .* lie loose"),
        (["a.jpg", "b.jpg", "notes/labels.csv"], r"or as data\.labels=notes/labels\.csv\.$"),
        (["train/a.jpg", "labels.csv"], r"or as data\.labels=labels\.csv\.$"),
        (["train/a.jpg", "sample_submission.csv", "test.csv", "train.csv"], r"or as data\.labels=train\.csv\.$"),
        (["train/a.jpg", "about.csv", "train/Labels.TSV"], r"or as data\.labels=train/Labels\.TSV\.$"),
        (["train/a.jpg", "sampleSubmission.csv"], r"or as data\.labels=FILE\.csv\.$"),
        (["kaggle/train/a.jpg", "kaggle/test/a.jpg", "kaggle/labels.csv"], r"or as data\.labels=kaggle/labels\.csv\.$"),
        (["labels.csv", "kaggle/train/a.jpg", "kaggle/test/a.jpg"], r"or as data\.labels=labels\.csv\.$"),
        (["cat/1.jpg"], r"images of one class only, cat"),
        (
            ["train/a/1.jpg", "train/b/x.txt", "val/a/1.jpg", "val/b/1.jpg"],
            r"class only, a; .* two: train/b/ has no image that is read; put images of another class there\.$",
        ),
        (["a/1.jpg", "b/x.txt", "c/x.txt"], r"needs two: b/ and c/ have no image that is read; put images of another"),
        (
            ["train/a/1.jpg", "train/b/x.txt", "train/c/1.jpg", "val/a/1.jpg", "val/b/1.jpg"],
            r"val/b is a class that the training part does not have; train/b/ has no image that is read: put some "
            r"there, or remove it here\.$",
        ),
        (["train/cat/1.jpg"], r"images of one class only, cat"),
        (["train/1.jpg", "train/2.jpg"], r"The 2 images in .*train lie loose.*data\.labels"),
        (
            ["train/cat/", "train/dog/notes.txt"],
            r"train has no class folders with images \(train/dog/notes\.txt is not",
        ),
        ([*TRAIN, "val/cat/1.jpg", "valid/cat/1.jpg"], r"has both val/ and valid/.*rename or remove"),
        ([*TRAIN, "Train/cat/1.jpg"], r"has both Train/ and train/"),
        ([*FLAT, "test/cat/1.jpg"], r"has a folder test/ but no train/: if it is the test part"),
        ([*FLAT, "val/1.jpg"], r"has a folder val/ but no train/: if it is the validation part"),
        (["train/1.jpg", "bus/1.jpg", "car/1.jpg"], r"looks like two layouts: images lie loose in train/ and in bus"),
        ([*TRAIN, "bus/1.jpg"], r"looks like two layouts: train/ has class folders inside, and images lie in bus"),
        ([*TRAIN, "val/1.jpg"], r"val has an image but no class folders"),
        ([*TRAIN, "test/heron/1.jpg", "test/cat/1.jpg"], r"test/heron is a class that the training part does not have"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path, names: list[str], words: str) -> None:
    if "Train/cat/1.jpg" in names and (write(tmp_path, "x/") / "X").exists():
        pytest.skip("this file system takes Train for train")
    with pytest.raises(CifartuiError, match=words):
        list_images(write(tmp_path, *names))


@pytest.mark.parametrize("table", ["labels.csv", "kaggle/labels.csv", "kaggle/more/labels.csv"])
def test_the_table_that_is_advised_can_be_given_as_it_is_advised(tmp_path: Path, table: str) -> None:
    write(tmp_path, "kaggle/more/train/a.jpg", "kaggle/more/train/b.jpg", "kaggle/more/test/c.jpg")
    (tmp_path / table).write_text("file,label\na,cat\nb,dog\n")
    with pytest.raises(CifartuiError) as refused:
        list_images(tmp_path)
    advised = str(refused.value).rpartition("=")[2].removesuffix(".")
    assert advised == table
    assert counts(list_images(tmp_path, advised)) == (2, 0, 0, 1)


def test_an_absent_folder_and_one_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CifartuiError, match=r"gone could not be read: No such file"):
        list_images(tmp_path / "gone")
    write(tmp_path, *FLAT, "dog/old/1.jpg")
    scandir = os.scandir

    def refuse(name: str) -> object:
        def scan(path: object) -> object:
            if isinstance(path, Path) and path.name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)  # type: ignore[call-overload]

        return scan

    monkeypatch.setattr(os, "scandir", refuse("old"))
    assert list_images(tmp_path).notices == ("dog/old is not read (permission denied).",)
    monkeypatch.setattr(os, "scandir", refuse("dog"))
    with pytest.raises(CifartuiError, match=r"dog could not be read: Permission denied"):
        list_images(tmp_path)


# --- links, odd files, odd names -------------------------------------------------------------------


def test_links_are_followed_once(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", "1.jpg", "2.jpg")
    root = write(tmp_path / "data", *FLAT)
    (root / "bird").symlink_to(elsewhere)
    (root / "aviary").symlink_to(elsewhere)
    (root / "cat/loop").symlink_to(root)
    (root / "cat/dogs").symlink_to(root / "dog")
    (root / "dog/3.jpg").symlink_to(elsewhere / "1.jpg")
    found = list_images(root)
    assert found.class_names == ("aviary", "cat", "dog")
    assert found.train.names == (
        "aviary/1.jpg", "aviary/2.jpg", "cat/1.jpg", "cat/2.png", "dog/1.jpg", "dog/3.jpg",
    )  # fmt: skip
    assert [(group.folder, group.first) for group in found.unread] == [("", "bird"), ("cat", "dogs")]
    assert {group.reason for group in found.unread} == {"a link to a folder that is read already"}
    assert found.unread[1].num_files == 2


def test_what_is_no_regular_file_is_named_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, *FLAT)
    (tmp_path / "cat/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "cat/self.jpg").symlink_to(tmp_path / "cat/self.jpg")
    (tmp_path / "dog/zeros.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "dog/pipe.jpg")
    found = list_images(tmp_path)
    assert counts(found) == (3, 0, 0, 0)
    assert [(group.folder, group.reason, group.num_files) for group in found.unread] == [
        ("cat", "a link that leads nowhere", 2),
        ("dog", "a link to what is not a regular file", 1),
        ("dog", "not a regular file", 1),
    ]


def test_a_part_that_is_a_link_to_another_is_said(tmp_path: Path) -> None:
    write(tmp_path, *TRAIN)
    (tmp_path / "val").symlink_to(tmp_path / "train")
    found = list_images(tmp_path)
    assert (len(found.train), len(found.val)) == (3, 3)
    assert found.notices == ("val/ and train/ are the same folder: accuracy there is that of training images.",)


COMPOSED, DECOMPOSED = "café", unicodedata.normalize("NFD", "café")


def test_a_class_is_the_same_in_whatever_unicode_form(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, f"train/{DECOMPOSED}/1.jpg", "train/bar/1.jpg", f"val/{COMPOSED}/1.jpg"))
    assert found.class_names == ("bar", COMPOSED)
    assert found.train.names[1] == f"train/{DECOMPOSED}/1.jpg"
    assert found.val.labels == (1,)


def test_two_folders_of_one_name_in_two_forms_are_one_class(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, f"{DECOMPOSED}/1.jpg", f"{COMPOSED}/2.jpg", "bar/1.jpg"))
    if len(list(tmp_path.iterdir())) == 2:
        pytest.skip("this file system has one form only")
    assert found.class_names == ("bar", COMPOSED)
    assert found.train.labels == (0, 1, 1)
    assert "are named café, in different Unicode forms; they are one class." in found.notices[0]


def test_names_in_other_encodings_survive_and_are_printable(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        Path(os.fsdecode(raw)).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    Path(os.fsdecode(raw + b"/\xff.jpg")).touch()
    found = list_images(write(tmp_path, "bar/1.jpg", "esc\x1b[2J/1.jpg"))
    assert found.class_names == ("bar", "caf\\xe9", "esc␛[2J")
    assert (tmp_path / found.train.names[1]).is_file()
    assert shown(found.train.names[1]) == "caf\\xe9/\\xff.jpg"


def test_junk_names() -> None:
    assert all(map(is_junk, (".hidden", "._a.jpg", "@EADIR", "thumbs.DB", "Icon\r")))
    assert not any(map(is_junk, ("a.jpg", "cat", "_x", "~a", "$a", "found", "found.0001", "recycle", "tmp")))


def test_the_listing_may_be_ended_between_folders(tmp_path: Path) -> None:
    asked = []

    def stop() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list_images(write(tmp_path, *FLAT), poll=stop)


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, engine.shared.image_listing as listing; from pathlib import Path; "
        "print(sorted({'torch', 'numpy', 'pooch', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_class_folders_that_look_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="Two classes look the same, a␊b"):
        list_images(write(tmp_path, "a\nb/1.jpg", "a␊b/1.jpg"))


@pytest.mark.parametrize("where", ["", "x/" * 12])
def test_classes_are_counted_as_they_are_listed(tmp_path: Path, where: str) -> None:
    write(tmp_path, f"cat/{where}1.jpg", "dog/1.jpg", "owl/")
    for number in range(50):  # the order of a folder's entries is not known
        (tmp_path / f"cat/loop{number}").symlink_to(f"loop{number}")
    assert num_classes(tmp_path) == len(list_images(tmp_path).class_names) == 2


def test_a_file_that_has_nothing_to_read_yet_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1) -> Any:  # as a buffered file that is not waited for
            return None

    def opened(fd: int, _mode: str) -> Waiting:
        os.close(fd)
        return Waiting()

    write(tmp_path, *FLAT, "cat/kmsg")
    monkeypatch.setattr("engine.shared.image_scan.os.fdopen", opened)
    assert list_images(tmp_path).unread[0].first == "kmsg"


def test_a_link_to_another_class_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path, *FLAT, "elsewhere/owl/1.jpg")
    data = tmp_path / "data"
    for link, folder in (("cat", "cat"), ("dog", "dog"), ("kitty", "cat"), ("owl", "elsewhere/owl")):
        data.mkdir(exist_ok=True)
        (data / link).symlink_to(tmp_path / folder)
    assert num_classes(data) == len(list_images(data).class_names) == 3


# --- the system's own files, and no end of files -----------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux has such file systems")
def test_file_systems_of_the_kernel_are_refused_and_left_out(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match=r"^/proc/bus could not be read: files of the system itself, proc; name a"):
        list_images(Path("/proc/bus"))
    with pytest.raises(CifartuiError, match="files of the system itself, proc"):
        num_classes(Path("/proc"))
    write(tmp_path, *FLAT, "dog/old/2.jpg")
    (tmp_path / "dog/old/processes").symlink_to("/proc")
    (tmp_path / "owl").symlink_to("/proc/self")
    found = list_images(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert [(each.folder, each.first) for each in found.unread] == [("", "owl"), ("dog/old", "processes")]
    assert {each.reason for each in found.unread} == {"files of the system itself, proc"}
    assert num_classes(tmp_path) == 2


@pytest.mark.parametrize("junk", ["", "."])
def test_there_is_an_end_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, junk: str) -> None:
    monkeypatch.setattr("engine.shared.image_scan._POLL_EVERY", 10)
    monkeypatch.setattr("engine.shared.image_scan._MOST_ENTRIES", 30)
    write(tmp_path, *FLAT, *(f"dog/{number}/{junk}{name}" for number in range(4) for name in range(12)))
    asked: list[None] = []
    with pytest.raises(CifartuiError, match="has more than 30 files and folders, and was not read to the end; name"):
        list_images(tmp_path, poll=lambda: asked.append(None))
    assert len(asked) > 6, "for each folder, and for every ten files"
    monkeypatch.setattr("engine.shared.image_scan._MOST_ENTRIES", 50)
    assert len(list_images(tmp_path).train) == 3


def test_a_large_folder_is_polled_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.shared.image_scan._POLL_EVERY", 10)
    asked: list[None] = []
    list_images(write(tmp_path, *FLAT, *(f"dog/{name}.jpg" for name in range(96))), poll=lambda: asked.append(None))
    assert len(asked) == 3 + 10


def test_an_archive_is_not_told_to_be_a_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("pets/cat/1.jpg", "pets/dog/1.jpg", "1.jpg"):
            archive.writestr(name, "")
    with pytest.raises(CifartuiError, match=r"if .*x.zip/pets, with cat and dog inside, is the data set, pack it al"):
        list_images(tmp_path / "x.zip")


def test_the_number_of_classes_of_what_is_refused_is_refused_alike(tmp_path: Path) -> None:
    for names in (("pets/cat/1.jpg", "pets/dog/1.jpg", "notes/"), ("train/train/1.jpg",), ("photos.zip",)):
        folder = write(tmp_path / names[0].replace("/", "_"), *names)
        with pytest.raises(CifartuiError) as listed:
            list_images(folder)
        with pytest.raises(CifartuiError) as counted:
            num_classes(folder)
        assert str(counted.value) == str(listed.value)


def test_a_part_in_a_folder_of_its_own_name_is_read(tmp_path: Path) -> None:
    found = list_images(write(tmp_path, *(f"train/{name}" for name in TRAIN), "val/val/cat/1.jpg", "val/val/dog/1.jpg"))
    assert (found.train_folder, found.train.names[0], found.val.names) == (
        "train/train", "train/train/cat/1.jpg", ("val/val/cat/1.jpg", "val/val/dog/1.jpg"),
    )  # fmt: skip
    assert num_classes(tmp_path) == 2
    assert list_images(write(tmp_path / "b", "train/train/1.jpg", "train/bus/1.jpg")).class_names == ("bus", "train")


# --- what vanishes while it is read -------------------------------------------------------------------


@pytest.mark.parametrize(
    "victim", ["train", "train/cat", "train/cat/1.jpg", "val", "val/dog", "test", "test/cat/1.jpg"]
)
def test_what_vanishes_meanwhile_is_a_sentence_or_nothing(tmp_path: Path, victim: str) -> None:
    parts = (*TRAIN, "val/cat/1.jpg", "val/dog/1.jpg", "test/dog/1.jpg", "test/cat/1.jpg")
    outcomes = set()
    for at in range(1, 14):
        root = write(tmp_path / f"{at}", *parts)
        asked = itertools.count(1)

        def take_away(root: Path = root, asked: Iterator[int] = asked, at: int = at) -> None:
            if next(asked) == at:
                (root / victim).rename(root.parent / f"away{at}")

        try:
            list_images(root, poll=take_away)
            outcomes.add("read")
        except CifartuiError as error:  # and no other error
            outcomes.add("refused" if str(error).endswith(".") else "")
    assert outcomes in ({"read"}, {"read", "refused"})
