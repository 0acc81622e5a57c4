"""Archives of images: unpacked once, safely, and listed like a folder."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from engine.data.load import load
from engine.shared.cache_folder import UNUSED_DAYS, cache_folder
from engine.shared.image_archives import is_archive, unpack, unpacked_before
from engine.shared.image_listing import list_images, num_classes
from presets.errors import CifartuiError
from presets.schema import Data
from tests.waiting import wait_for
from tui.data.torch_process import run_module

FILES = ("train/cat/1.jpg", "train/dog/1.jpg", "train/dog/2.jpg", "val/cat/1.jpg", "val/dog/1.jpg")
JUNK = ("train/.DS_Store", "__MACOSX/train/cat/._1.jpg")


def make(path: Path, names: tuple[str, ...] = (*FILES, *JUNK)) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, name)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tgz', 'gz').replace('tar', '')}") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def written() -> list[str]:
    folder = cache_folder() / "unpacked"
    return sorted(str(path.relative_to(folder)).partition("/")[2] for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "X.TGZ", "x.tar.bz2", "x.tar.xz"])
def test_an_archive_is_listed_like_its_folder(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / name.lower()).rename(tmp_path / name)
    assert is_archive(archive)
    assert num_classes(archive) is None
    found = list_images(archive)
    assert found.layout == "Class folders in train/ and val/: no test part."
    assert found.train.names == FILES[:3]
    assert (found.root / FILES[0]).read_text() == FILES[0]
    assert (found.notices, found.unread) == ((), ())
    assert num_classes(archive) == 2
    assert stat.S_IMODE((found.root / FILES[0]).stat().st_mode) == 0o600


def test_it_is_unpacked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    archive = make(tmp_path / "x.zip")
    told: list[tuple[int, int]] = []
    first = unpack(archive, lambda done, total: told.append((done, total)))
    assert told[-1] == (archive.stat().st_size,) * 2
    told.clear()
    assert unpack(archive, lambda done, total: told.append((done, total))) == first
    assert told == []
    make(archive, FILES[:2])
    os.utime(archive, ns=(0, 0))
    assert unpacked_before(archive) is None
    assert unpack(archive).folder != first.folder


def test_a_wrapper_folder_and_a_table_inside(tmp_path: Path) -> None:
    assert list_images(make(tmp_path / "x.tar", tuple(f"./data/{name}" for name in FILES))).root.name == "data"
    archive = tmp_path / "t.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("labels.csv", "file,label\n1.jpg,cat\n2.jpg,dog\n")
        opened.writestr("1.jpg", "")
        opened.writestr("2.jpg", "")
    assert list_images(archive, "labels.csv").class_names == ("cat", "dog")


def test_names_of_macos_are_utf8_without_saying_so(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("cafe\u0301/1.jpg", "bar/1.jpg"):
            info = zipfile.ZipInfo(name.encode().decode("cp437"))
            opened.writestr(info, "")
    content = archive.read_bytes()
    raw = "cafe\u0301/1.jpg".encode()
    as_written = raw.decode("cp437").encode()
    if as_written in content:  # Python writes UTF-8 and says so: put back what macOS writes
        archive = _as_macos(tmp_path / "y.zip", raw)
    assert list_images(archive).class_names == ("bar", "café")


def _as_macos(path: Path, name: bytes) -> Path:
    """Write an archive whose member has these bytes for a name, and no flag."""
    place = b"N" * len(name)
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr(place.decode(), "")
        opened.writestr("bar/1.jpg", "")
    path.write_bytes(path.read_bytes().replace(place, name))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / name, FILES)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(CifartuiError, match=r"could not be unpacked into .* fetch it again"):
        list_images(archive)
    assert written() == []


def test_a_stop_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(make(tmp_path / "x.tar"), stop)
    assert written() == []


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_a_stop_within_a_large_member_leaves_nothing(tmp_path: Path, name: str) -> None:
    archive, calls = make(tmp_path / name, ("cat/1.jpg",)), 0
    with zipfile.ZipFile(archive, "w") if name == "x.zip" else tarfile.open(archive, "w") as opened:
        if isinstance(opened, zipfile.ZipFile):
            opened.writestr("cat/1.jpg", bytes(3_000_000))
        else:
            member = tarfile.TarInfo("cat/1.jpg")
            member.size = 3_000_000
            opened.addfile(member, io.BytesIO(bytes(3_000_000)))

    def stop(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, stop)
    assert written() == []


def copies() -> list[Path]:
    return sorted((cache_folder() / "unpacked").iterdir())


def test_a_copy_of_what_an_archive_was_before_is_removed(tmp_path: Path) -> None:
    archive, other = make(tmp_path / "x.zip"), make(tmp_path / "y.zip")
    kept, old = unpack(other).folder, unpack(archive).folder
    make(archive, FILES[:2])
    new = unpack(archive).folder
    assert new != old
    assert copies() == sorted([kept, new])


def test_a_copy_that_nobody_uses_is_removed_after_its_days_and_a_use_begins_them_anew(tmp_path: Path) -> None:
    used, unused = unpack(make(tmp_path / "x.zip")).folder, unpack(make(tmp_path / "y.zip")).folder
    for copy in (used, unused):
        os.utime(copy / ".source", (time.time() - 86_400 * (UNUSED_DAYS + 1),) * 2)
    unpack(tmp_path / "x.zip")
    new = unpack(make(tmp_path / "z.zip")).folder
    assert copies() == sorted([used, new])


def test_what_a_killed_process_unpacked_in_part_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom engine.shared.image_archives import unpack\n"
        "unpack(Path(sys.argv[1]), lambda done, total: done and os._exit(9))"
    )
    dead = subprocess.Popen([sys.executable, "-c", script, str(make(tmp_path / "x.tar"))])
    assert dead.wait() == 9
    (left,) = copies()

    def look(_done: int, _total: int) -> None:
        seen.update(path.name for path in copies())

    seen: set[str] = set()
    second = make(tmp_path / "y.zip")
    inner = make(tmp_path / "z.zip")

    def within(done: int, total: int) -> None:
        unpack(inner)  # which removes what is left of the first, and not what is under way
        look(done, total)

    unpacked = unpack(second, within).folder
    assert left not in copies()
    assert copies() == sorted([unpacked, unpack(inner).folder])
    assert any(name.startswith(unpacked.name + ".") for name in seen)


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_what_a_killed_process_unpacked_in_part_goes_when_any_archive_is_looked_at(tmp_path: Path, name: str) -> None:
    kept = unpack(make(tmp_path / "y.zip")).folder
    killed = subprocess.Popen([sys.executable, "-c", UNPACKS, str(make(tmp_path / name))], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"begun\n"
    assert num_classes(tmp_path / "y.zip") == 2
    assert len(copies()) == 2  # it is at work
    killed.kill()
    killed.communicate()
    assert num_classes(tmp_path / "y.zip") == 2
    assert copies() == [kept]


UNPACKS = (
    "import sys, time\nfrom pathlib import Path\nfrom engine.shared.image_archives import unpack\n"
    "def wait(done, total):\n    if done:\n        print('begun', flush=True)\n        time.sleep(600)\n"
    "unpack(Path(sys.argv[1]), wait)"
)
"""Script that stays in the midst of unpacking an archive."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    ended = subprocess.Popen([sys.executable, "-c", UNPACKS, str(make(tmp_path / "x.tar"))], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    assert ended.stdout.readline() == b"begun\n"
    (before,) = copies()
    ended.send_signal(number)
    ended.communicate()
    assert ended.returncode == 128 + number
    assert before.name.endswith(f".{ended.pid}")
    assert copies() == []


def test_a_helper_that_is_not_wanted_any_more_leaves_nothing(tmp_path: Path) -> None:
    script = f"import sys; sys.argv[1:] = [{str(make(tmp_path / 'x.tar'))!r}]; exec({UNPACKS!r}, {{}})"
    stop = threading.Event()

    def once_begun() -> None:
        wait_for(lambda: [*cache_folder().glob("unpacked/*/.lock")], "the unpacking")
        stop.set()

    thread = threading.Thread(target=once_begun)
    thread.start()
    with pytest.raises(CifartuiError, match="withdrawn"):
        run_module("timeit", ["-n1", "-r1", script], stop=stop)
    thread.join()
    assert copies() == []


@pytest.mark.parametrize(("end", "code"), [("", 0), ("end_process(129)", 129)])
def test_a_program_that_ends_waits_until_its_threads_have_cleaned_up(tmp_path: Path, end: str, code: int) -> None:
    script = (
        "import sys, threading, time\nfrom pathlib import Path\nfrom engine.shared.image_archives import unpack\n"
        "from tui.terminal.driver import end_process\n"
        "begun, left = threading.Event(), threading.Event()\n"
        "def wait(done, total):\n    if done:\n        begun.set()\n        left.wait()\n        time.sleep(0.2)\n"
        "        raise ValueError\n"
        "threading.Thread(target=unpack, args=(Path(sys.argv[1]), wait), daemon=True).start()\n"
        f"begun.wait()\nleft.set()\n{end}"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(make(tmp_path / "x.tar"))], stderr=subprocess.DEVNULL)
    assert ended.returncode == code
    assert copies() == []


def test_a_password_is_said(tmp_path: Path) -> None:
    archive = make(tmp_path / "x.zip")
    content = bytearray(archive.read_bytes())
    for at in range(len(content) - 10):
        if content[at : at + 4] == b"PK\x01\x02":
            content[at + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(CifartuiError, match="locked by a password; unpack it by hand"):
        list_images(archive)


def test_what_is_said_names_the_archive_and_not_the_cache(tmp_path: Path) -> None:
    archive = make(tmp_path / "x.zip", (*FILES, "val/owl/1.jpg"))
    with pytest.raises(CifartuiError, match=r"x\.zip/val/owl is a class that the training part does not have"):
        list_images(archive)


def packed(path: Path, content: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


TABLE = {"labels.csv": "file,label\n1.jpg,cat\n2.jpg,dog\n"}


def test_a_table_inside_an_archive_is_named_by_a_setting(tmp_path: Path) -> None:
    in_folder = packed(tmp_path / "f.zip", {**TABLE, "images/1.jpg": "", "images/2.jpg": ""})
    advice = r"if labels\.csv names files and labels, add --set data\.labels=labels\.csv; else put the images"
    with pytest.raises(CifartuiError, match=rf"f\.zip has images of one class only, images; .*: {advice}"):
        list_images(in_folder)
    with pytest.raises(CifartuiError, match=rf"f\.zip has images of one class only, images; .*: {advice}"):
        num_classes(in_folder)
    loose = packed(tmp_path / "l.zip", {**TABLE, "1.jpg": "", "2.jpg": ""})
    with pytest.raises(CifartuiError, match=r"a table of file names and labels with --set data\.labels=labels\.csv\.$"):
        list_images(loose)
    twice = packed(tmp_path / "z.zip", {"inner.zip": "PK"})
    with pytest.raises(CifartuiError, match=r"unpack it and name inner\.zip\.$"):
        list_images(twice)


def test_what_is_said_of_a_table_inside_names_the_archive(tmp_path: Path) -> None:
    archive = packed(tmp_path / "f.zip", {**TABLE, "images/1.jpg": "", "images/2.jpg": ""})
    found = list_images(archive, "labels.csv")
    columns = "files by column file and labels by column label"
    assert found.notices[0] == f"f.zip: labels.csv is read: {columns}."
    assert found.layout.startswith(f"f.zip: labels.csv: {columns};")
    assert not any(str(cache_folder()) in said for said in found.notices)


def test_images_of_an_archive_that_cannot_be_read_are_said_to_be_in_it(tmp_path: Path) -> None:
    archive = packed(tmp_path / "b.zip", {f"{name}/{number}.jpg": "" for name in "ab" for number in range(20)})
    data = Data(dataset="class-folders", path=str(archive), image_size=8)
    with pytest.raises(CifartuiError) as raised:
        load(data, None, 0, lambda _event: None)
    assert f"40 of 40 images in {archive} cannot be read" in str(raised.value)
    assert str(cache_folder()) not in str(raised.value)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "counts", "layout"),
    [
        ("ants-bees.tar", (245, 153, 0), "Class folders in train/ and val/: no test part."),
        ("cifar-10-jpeg.tar.gz", (50_000, 0, 10_000), "Class folders in train/ and test/: no validation part."),
    ],
)
def test_published_archives_are_read_as_they_are(
    cifar100_dir: Path, name: str, counts: tuple[int, int, int], layout: str
) -> None:
    found = list_images(cifar100_dir / name)
    assert (len(found.train), len(found.val), len(found.test)) == counts
    assert (found.layout, found.notices) == (layout, ())


def test_a_tar_with_a_long_chain_of_names_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 5
    archive = tmp_path / "x.tar"
    link = member.tobuf(tarfile.GNU_FORMAT) + b"cat/1".ljust(512, b"\0")
    archive.write_bytes(link * 3000 + tarfile.TarInfo("cat/1.jpg").tobuf() + bytes(1024))
    with pytest.raises(CifartuiError, match="could not be unpacked"):
        list_images(archive)
    assert written() == []


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (("cat/a", "cat/a/1.jpg", "cat/a/b/2.jpg"), 2),
        (("cat/a/1.jpg", "cat/a"), 1),
    ],
)
def test_a_file_and_a_folder_of_one_name_are_no_damage(
    tmp_path: Path, name: str, names: tuple[str, ...], left_out: int
) -> None:
    found = list_images(make(tmp_path / name, ("cat/9.jpg", "dog/1.jpg", *names)))
    reason = "the archive has a file and a folder of one name"
    assert sum(each.num_files for each in found.unread if each.reason == reason) == left_out
    assert f"({reason})." in " ".join(found.notices)
    assert "cat/9.jpg" in found.train.names


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_of_one_name_the_later_counts_and_that_is_said(tmp_path: Path, name: str) -> None:
    found = list_images(make(tmp_path / name, (*FILES, FILES[0])))
    assert found.train.names == FILES[:3]
    assert [(each.folder, each.num_files, each.first) for each in found.unread] == [("train/cat", 1, "1.jpg")]
    assert "(a later file of the archive has its name)." in " ".join(found.notices)


@pytest.mark.parametrize(("made", "name"), [("x.tar", "x.zip"), ("x.tgz", "y.zip"), ("x.zip", "x.tar.gz")])
def test_an_archive_is_read_as_what_it_is_whatever_its_name(tmp_path: Path, made: str, name: str) -> None:
    found = list_images(make(tmp_path / made).rename(tmp_path / name))
    assert (found.train.names, found.notices) == (FILES[:3], ())


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make(tmp_path / "inner.zip")
    with tarfile.open(tmp_path / "x.zip", "w") as tar:
        for member in FILES:
            tar.add(inner, member)
    assert list_images(tmp_path / "x.zip").train.names == FILES[:3]
