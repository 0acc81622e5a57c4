"""Files among the images that are none, or are of formats whose readers do more than read pixels."""

import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.data import cifar_cache
from engine.data.load import load
from engine.data.sets import DataSet
from engine.shared.cache_folder import cache_folder, make_cache_folder
from engine.shared.image_formats import FORMATS, open_image
from presets.errors import CifartuiError
from presets.schema import Data
from tests.bird_files import write_class_folders

Image.init()
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
PATIENCE_S = 60.0


def of_format(name: str) -> bytes:
    """Return an image in a format of Pillow's; skip the test where it cannot be written."""
    file = io.BytesIO()
    try:
        Image.new("RGB", (16, 16), (200, 100, 0)).save(file, name)
    except (OSError, ValueError, KeyError, AttributeError):
        pytest.skip(f"this Pillow does not write {name} of colours")
    return file.getvalue()


def within_patience(work: Callable[[], Any], let_go: Callable[[], object]) -> Any:
    """Return what `work` returns; fail where it hangs, after `let_go` has freed what it hangs in."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        let_go()
        pytest.fail("it hangs")
    return answers[0]


def load_from(root: Path) -> DataSet:
    return load(Data(dataset="class-folders", path=str(root), image_size=8), None, 0, lambda _event: None)


@pytest.mark.parametrize("name", sorted(Image.SAVE.keys() & Image.OPEN.keys() - set(FORMATS) - {"DIB"}))
def test_other_formats_are_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(of_format(name))
    with pytest.raises(OSError, match="cannot identify image file"), open_image(path):
        pass


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_of_data_sets_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(of_format(name))
    with open_image(path) as image:
        assert image.convert("RGB").size == (16, 16)


def test_an_eps_that_is_called_png_does_not_reach_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, programs = tmp_path / "ran", tmp_path / "bin"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (programs / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # to be looked for anew
    root = write_class_folders(tmp_path / "data")
    (root / "train/001.Crow/bad.png").write_bytes(EPS)
    assert "train/001.Crow/bad.png" in load_from(root).notices[0]
    assert not mark.exists()


def test_what_is_no_regular_file_is_left_out_and_nobody_waits_for_it(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path)
    place = root / "train/001.Crow"
    pipe = place / "pipe.jpg"
    os.mkfifo(pipe)
    (place / "folder.jpg").mkdir()
    (place / "zeros.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(place)  # a socket's path is short
        listening.bind("socket.jpg")
        os.chdir(before)
        found = within_patience(lambda: load_from(root), lambda: os.open(pipe, os.O_RDWR))
    assert len(found.train) + len(found.val) == 30
    assert "train/001.Crow/zeros.jpg is not read (a link to what is not a regular file)." in found.notices
    assert "2 files in train/001.Crow are not read (not a regular file)." in found.notices


def test_a_cache_of_another_user_is_not_used(tmp_path: Path, disown: Callable[[Path], None]) -> None:
    root = write_class_folders(tmp_path)
    load_from(root)
    (folder,) = (cache_folder() / "images").iterdir()
    disown(folder)
    with pytest.raises(CifartuiError, match=r"cannot be used for a cache \(it belongs to user .*CIFARTUI_CACHE"):
        load_from(root)


def test_a_cache_that_is_a_link_is_not_used_and_one_that_others_may_write_is_closed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CifartuiError, match="it is a link"):
        make_cache_folder(tmp_path / "link")
    (tmp_path / "elsewhere").chmod(0o777)
    make_cache_folder(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o700


def test_cifars_cache_of_another_user_is_read_anew(tmp_path: Path, disown: Callable[[Path], None]) -> None:
    import numpy as np

    rows = cifar_cache.Rows(np.zeros((1, 3072), np.uint8), np.zeros(1, np.int64))
    content = cifar_cache.Content(rows, rows, ("a",), {})
    source, calls = tmp_path / "archive", []
    source.write_bytes(b"x")

    def read() -> cifar_cache.Content:
        calls.append(1)
        return content

    cifar_cache.cached("cifar100", [source], read)
    cifar_cache.cached("cifar100", [source], read)
    assert len(calls) == 1
    (folder,) = (cache_folder() / "cifar100").iterdir()
    disown(folder)
    cifar_cache.cached("cifar100", [source], read)
    assert len(calls) == 2
