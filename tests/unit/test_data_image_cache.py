"""Decoding once: what stays after an interruption, what makes a cache out of date, what is memory-mapped."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine import files
from engine.data import image_decoders
from engine.data.image_decoders import DECODED
from engine.data.image_pixels import Colour
from engine.data.load import load
from engine.data.sets import DataSet
from engine.journal.events import DataProgressed
from engine.shared.cache_folder import cache_folder
from engine.shared.image_formats import Fault
from presets.errors import CifartuiError
from presets.schema import Data
from tests.bird_files import save, write_class_folders

NUM_IMAGES = 36


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_class_folders(tmp_path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files decoded, as they are."""
    names: list[str] = []
    read = image_decoders.read_square_and_range

    def noted(path: Path, size: int, background: Colour) -> object:
        names.append(path.name)
        return read(path, size, background)

    monkeypatch.setattr(image_decoders, "read_square_and_range", noted)
    return names


def load_from(root: Path, **more: object) -> DataSet:
    values = {"image_size": 8, **more}
    return load(Data(dataset="class-folders", path=str(root), **values), None, 0, lambda event: None)  # type: ignore[arg-type]


def test_a_second_start_decodes_nothing(root: Path, decoded: list[str]) -> None:
    first = load_from(root)
    assert len(decoded) == NUM_IMAGES
    second = load_from(root)
    assert len(decoded) == NUM_IMAGES
    assert torch.equal(first.train.images, second.train.images)


def test_an_interruption_is_resumed(root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(event: DataProgressed) -> None:
        if event.done >= 20:
            raise KeyboardInterrupt

    monkeypatch.setattr("engine.data.progress._INTERVAL_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        load(Data(dataset="class-folders", path=str(root), image_size=8), None, 0, stop)
    decoded.clear()
    resumed = load_from(root)
    assert len(decoded) <= NUM_IMAGES - 20  # what was done is kept
    monkeypatch.setenv("CIFARTUI_CACHE", str(root / "another"))
    assert torch.equal(resumed.train.images, load_from(root).train.images)


@pytest.mark.parametrize("change", ["content", "time", "new file", "size"])
def test_a_change_makes_another_cache(root: Path, decoded: list[str], change: str) -> None:
    load_from(root)
    path = root / "train/001.Crow/03.jpg"
    if change == "content":
        save(path, (1, 2, 3), (9, 9))
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "new file":
        save(root / "train/001.Crow/99.jpg", (1, 2, 3))
    decoded.clear()
    load_from(root, image_size=4 if change == "size" else 8)
    assert len(decoded) == NUM_IMAGES + (change == "new file")
    folders = list((cache_folder() / "images").iterdir())
    assert len(folders) == (2 if change == "size" else 1)  # what is out of date is removed, another size is not


def pixels_of(data: DataSet) -> dict[str, torch.Tensor]:
    return {
        name: image.clone()
        for split in (data.train, data.val)
        for name, image in zip(split.names, split.images, strict=True)
    }


@pytest.mark.parametrize("way", ["another file", "the same file"])
def test_other_content_of_the_same_name_size_and_time_is_seen(root: Path, way: str) -> None:
    path = root / "train/001.Crow/03.jpg"
    before = pixels_of(load_from(root))
    status, content = path.stat(), (root / "train/002.Gull/07.jpg").read_bytes()
    content += bytes(max(0, status.st_size - len(content)))
    path.write_bytes(content[:1] * len(content))  # of the size that the other will have
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    load_from(root)
    if way == "another file":
        (root / "new").write_bytes(content)
        (root / "new").replace(path)
    else:
        path.write_bytes(content)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    after = pixels_of(load_from(root))
    assert before.keys() == after.keys()  # it can be read
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["train/001.Crow/03.jpg"]


def test_a_cache_of_an_earlier_version_is_not_used_and_is_removed(root: Path, decoded: list[str]) -> None:
    load_from(root)
    (folder,) = (cache_folder() / "images").iterdir()
    earlier, of_others = folder.with_name("earlier"), folder.with_name("of-others")
    for place, whose in ((earlier, str(root)), (of_others, "/elsewhere")):
        place.mkdir()
        (place / "about.json").write_text(json.dumps({"root": whose, "size": 8}))  # as version 1 wrote it
    decoded.clear()
    load_from(root, image_size=4)
    assert len(decoded) == NUM_IMAGES
    assert (earlier.exists(), of_others.exists(), folder.exists()) == (False, True, True)


def test_another_background_is_another_cache(root: Path, decoded: list[str]) -> None:
    path = root / "train/001.Crow/01.jpg"
    path.unlink()
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(path.with_suffix(".png"))
    colours = [
        pixels_of(load_from(root, background=background))["train/001.Crow/01.png"][:, 0, 0].tolist()
        for background in ("white", "black", "gray", (1, 2, 3))
    ]
    assert colours == [[255] * 3, [0] * 3, [128] * 3, [1, 2, 3]]
    decoded.clear()
    load_from(root)
    assert decoded == []  # the others did not remove it


@pytest.mark.parametrize("fault", [Fault.NO_PERMISSION, Fault.NEEDS_HEIF, Fault.ABSENT])
def test_what_may_be_readable_by_now_is_tried_again(
    root: Path, decoded: list[str], fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "train/001.Crow/03.jpg").write_bytes(b"no image")
    with monkeypatch.context() as patch:
        patch.setattr(image_decoders, "fault_of", lambda error, path: fault)
        assert f"train/001.Crow/03.jpg ({fault.text})" in load_from(root).notices[0]
    decoded.clear()
    assert f"({Fault.NO_IMAGE.text})" in load_from(root).notices[0]
    assert decoded == ["03.jpg"]


def test_only_what_is_needed_is_decoded(root: Path, decoded: list[str]) -> None:
    load_from(root, train_limit=4)
    assert len(decoded) == 4 + 3 + 6
    load_from(root)
    assert len(decoded) == NUM_IMAGES


def test_splits_are_memory_mapped(root: Path) -> None:
    data = load_from(root)
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("/pixels"):
            start, end = line.split()[0].split("-")
            mapped.append((int(start, 16), int(end, 16)))
    for split in (data.train, data.val, data.test):
        assert any(start <= split.images.data_ptr() < end for start, end in mapped)
        assert split.images.is_contiguous()


def test_a_split_by_fraction_is_the_one_that_its_labels_say(root: Path) -> None:
    every_tenth, fraction = load_from(root), load_from(root, validation=0.5)
    assert (len(fraction.train), len(fraction.val)) == (11, 19)
    for split in (every_tenth.train, fraction.train, fraction.val):
        red = split.images[:, 0, 0, 0].float()
        assert torch.allclose(red, split.labels * 80.0, atol=4)


def test_a_larger_cache_keeps_more_of_the_image(root: Path) -> None:
    assert load_from(root, cache_size=16).train.images.shape == (27, 3, 16, 16)


def test_broken_images_are_remembered(root: Path, decoded: list[str]) -> None:
    (root / "train/001.Crow/03.jpg").write_bytes(b"no image")
    first = load_from(root)
    assert "train/001.Crow/03.jpg" in first.notices[0]
    decoded.clear()
    assert load_from(root).notices == first.notices
    assert decoded == []


def test_a_cache_without_its_pixels_is_made_again(root: Path, decoded: list[str]) -> None:
    before = load_from(root).train.images.clone()
    next((cache_folder() / "images").glob("*/pixels")).unlink()
    assert torch.equal(load_from(root).train.images, before)
    assert len(decoded) == 2 * NUM_IMAGES


def test_a_full_disk_is_said_before_anything_is_decoded(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(CifartuiError, match="no room for the decoded images"):
        load_from(root)
    assert decoded == []
    assert not [path for path in cache_folder().rglob("*") if path.is_file() and path.name != "lock"]


@pytest.mark.slow
def test_two_processes_at_once_decode_every_image_once(root: Path) -> None:
    script = (
        "import sys\n"
        "from engine.data import image_decoders\n"
        "from engine.data.load import load\n"
        "from presets.schema import Data\n"
        "read, count = image_decoders.read_square_and_range, [0]\n"
        "def counted(*asked):\n"
        "    count[0] += 1\n"
        "    return read(*asked)\n"
        "image_decoders.read_square_and_range = counted\n"
        f"data = load(Data(dataset='class-folders', path={str(root)!r}, image_size=8), None, 0, lambda event: None)\n"
        "print(count[0], int(data.train.images.sum()))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0].split() for process in processes]
    assert sum(int(count) for count, _ in answers) == NUM_IMAGES
    assert answers[0][1] == answers[1][1]


def test_what_was_decoded_of_an_archive_that_has_changed_is_removed(root: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "birds"), "tar", root))
    load_from(archive)
    (before,) = (cache_folder() / "images").iterdir()
    first = next(path for path in (root / "train").rglob("*") if path.is_file())
    first.unlink()
    shutil.make_archive(str(tmp_path / "birds"), "tar", root)
    load_from(archive)
    (after,) = (cache_folder() / "images").iterdir()
    assert after != before


def caches() -> list[Path]:
    return sorted((cache_folder() / "images").iterdir())


def test_marks_of_a_damaged_file_are_decoded_again(root: Path, decoded: list[str]) -> None:
    before = load_from(root).train.images.clone()
    marks = caches()[0] / "marks"
    marks.write_bytes(b"\xc8" * 3 + marks.read_bytes()[3:])
    decoded.clear()
    assert torch.equal(load_from(root).train.images, before)
    assert len(decoded) == 3


def test_a_cache_that_another_process_fills_is_not_removed(root: Path) -> None:
    load_from(root)
    (first,) = caches()
    save(root / "train/001.Crow/99.jpg", (1, 2, 3), (9, 9))
    with (first / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load_from(root)
        assert first in caches()
    save(root / "train/001.Crow/98.jpg", (1, 2, 3), (9, 9))
    load_from(root)
    assert len(caches()) == 1


def test_a_cache_is_filled_where_there_are_no_locks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def said(event: DataProgressed) -> None:
        assert "another process" not in event.what

    monkeypatch.setattr("fcntl.flock", refuse)
    assert len(load(Data(dataset="class-folders", path=str(root), image_size=8), None, 0, said).train)


def test_a_cache_that_is_removed_while_it_is_waited_for_is_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = files.try_flock, list[Path]()

    def remove_first(fd: int, kind: int) -> bool:
        if not removed:
            removed.append(caches()[0])
            shutil.rmtree(removed[0])
        return lock(fd, kind)

    monkeypatch.setattr(files, "try_flock", remove_first)
    assert len(load_from(root).train)
    assert caches() == removed


def test_a_disk_that_is_full_at_the_last_file_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text = Path.write_text

    def full(path: Path, *arguments: Any, **more: Any) -> int:
        if path.name == "about.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, *arguments, **more)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CifartuiError, match="There is no room for the decoded images"):
        load_from(root)


def failing_once(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A system call that fails the `at`th time it is made."""
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments)

    return call


@pytest.mark.parametrize(("call", "at"), [("pwrite", 1), ("pwrite", 3), ("fsync", 1)])
def test_pixels_that_a_disk_does_not_take_are_said_and_none_of_them_counts_as_decoded(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(os, call, failing_once(getattr(os, call), at))
        with pytest.raises(CifartuiError, match=r"cannot be written to .* \(Input/output error\).*CIFARTUI_CACHE"):
            load_from(root)
    (marks,) = (cache_folder() / "images").glob("*/marks")
    assert (np.fromfile(marks, np.uint8) == DECODED).sum() < (1 if call == "fsync" else NUM_IMAGES)
    after = load_from(root).train.images.clone()
    shutil.rmtree(cache_folder() / "images")
    assert torch.equal(load_from(root).train.images, after)


def test_half_of_an_image_is_not_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    with monkeypatch.context() as short:
        short.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[: data.nbytes // 2], at))
        with pytest.raises(CifartuiError, match="Decoded images cannot be written to"):
            load_from(root)
    (marks,) = (cache_folder() / "images").glob("*/marks")
    assert not np.fromfile(marks, np.uint8).any()
