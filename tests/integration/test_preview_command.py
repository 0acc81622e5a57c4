"""`cifartui preview` by the command line: a PNG file off a terminal, half blocks on one."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from PIL import Image

from tests import bird_files
from tests.terminal import Terminal

Call = Callable[..., CompletedProcess[str]]


def pixels(path: Path) -> tuple[tuple[int, int], bytes]:
    with Image.open(path) as image:
        return image.size, image.tobytes()


def test_a_picture_is_a_function_of_preset_data_and_seed(cifartui: Call, tmp_path: Path) -> None:
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        for number in range(22):
            part = "train" if number < 20 else "test"
            bird_files.save(tmp_path / "data" / part / name / f"{number:02}.png", colour)

    def draw(name: str, *more: str) -> tuple[tuple[int, int], bytes]:
        path = tmp_path / name
        options = ("--data", str(tmp_path / "data"), "--epochs", "2", "--images", "3", "--device", "cpu")
        crop = ("--set", 'train.augment=[{op="random-crop", padding=4}]')
        result = cifartui("preview", "demo", *options, *crop, *more, "--output", str(path))
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"3 images in 2 epochs are in {path}.\n"
        return pixels(path)

    first = draw("a.png")
    size, drawn = first
    assert size == (8 + 3 * (96 + 8), 8 + 16 + 3 * (96 + 16 + 8))  # 32 px, three times as large
    assert draw("b.png") == first
    assert draw("c.png", "--seed", "1") != first
    assert {bytes((250, 0, 0)), bytes((0, 0, 250))} & {drawn[at : at + 3] for at in range(0, len(drawn), 3)}
    again = cifartui("preview", "demo", "--output", str(tmp_path / "a.png"))
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def test_an_archive_is_unpacked_and_what_is_not_read_is_said(
    cifartui: Call, tmp_path: Path, terminals: Callable[..., Terminal]
) -> None:
    packed = tmp_path / "mine.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
            for number in range(8):
                bird_files.save(tmp_path / "one.png", colour)
                archive.write(tmp_path / "one.png", f"{name}/{number:02}.png")
        archive.writestr("red/damaged.png", b"no image")
    options = ("--data", str(packed), "--images", "1", "--epochs", "1", "--device", "cpu")
    done = cifartui("preview", "demo", *options, "--output", str(tmp_path / "a.png"))
    assert done.returncode == 0, done.stderr
    assert "damaged.png" in done.stderr
    for folder in (Path(os.environ["CIFARTUI_CACHE"]) / "unpacked").iterdir():
        shutil.rmtree(folder)
    terminal = terminals("preview", "demo", *options, "--output", str(tmp_path / "b.png"))
    terminal.shows("1 image in 1 epoch are in")
    assert b"unpacking: " in terminal.received


def test_off_a_terminal_it_asks_for_a_file_and_a_mistake_is_a_sentence(cifartui: Call, tmp_path: Path) -> None:
    result = cifartui("preview", "demo")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--output FILE.png" in result.stderr
    absent = cifartui("preview", "demo", "--data", str(tmp_path / "absent"), "--output", str(tmp_path / "x.png"))
    assert (absent.returncode, len(absent.stderr.strip().splitlines())) == (2, 1)
    assert not (tmp_path / "x.png").exists()


def test_on_a_terminal_it_is_drawn_with_the_epochs_beside_each_other(terminals: Callable[..., Terminal]) -> None:
    terminal = terminals("preview", "demo", "--epochs", "2", "--images", "1", "--device", "cpu")
    terminal.shows("validation", "epoch 1", "epoch 2", "▀▀▀▀")
