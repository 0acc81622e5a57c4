"""Data, weights and libraries that are not there are refused before a run directory is made."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.runs import needed_files
from engine.runs.needed_files import check_needed
from engine.runs.run_options import RunOptions
from engine.shared.image_archives import unpack
from presets import catalog
from presets.errors import CifartuiError
from tests import bird_files
from tui.cli.main import cifartui


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        bird_files.save(tmp_path / "photos" / name / "1.png", (0, 0, 0))
    bird_files.save(tmp_path / "photos/dog/7.png", (0, 0, 0))  # validated with, by its name
    return tmp_path / "photos"


COMMANDS = [("train",), ("train", "--detach"), ("train", "--name", "mine"), ("lr-find",), ("queue", "add")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "{photos}", "--set", "model.weights=/gone.pt"), "The weights /gone.pt do not exist; name another"),
        (("--data", "{photos}", "--set", "model.weights={photos}/cat"), "are not a file; name another file with"),
        (("--data", "{photos}", "--set", "model.weights=imagenet"), 'or a file, not "imagenet".'),
        (
            (
                "--data",
                "{photos}/gone",
            ),
            "gone does not exist; name a folder of images.",
        ),
        (("--set", "data.path={photos}/gone"), "There is no {photos}/gone. Name one that holds a folder of images"),
        (("--set", "data.path={photos}/cat"), "The only image in {photos}/cat lies loose, so its class is not known"),
        ((), "No folder of images is named. Name one"),
        (("--set", "data.dataset=cub200"), "Caltech-UCSD Birds 200 is not in"),
        (("--set", "data.dataset=cifar10", "--set", "data.path=/gone"), "CIFAR-10 is not in /gone"),
    ],
)
def test_a_command_refuses_in_a_sentence_and_makes_nothing(
    tmp_path: Path, photos: Path, command: tuple[str, ...], options: tuple[str, ...], said: str
) -> None:
    runs = tmp_path / "runs"
    filled = [option.replace("{photos}", str(photos)) for option in options]
    result = CliRunner().invoke(cifartui, [*command, "photos/frozen", *filled, "--runs-dir", str(runs)])
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    assert said.replace("{photos}", str(photos)) in result.stderr
    assert not runs.exists() or not list(runs.iterdir())


def few(root: Path, numbers: dict[str, tuple[int, ...]]) -> Path:
    """Write images of which a tenth, by their names, is none."""
    for name, each in numbers.items():
        for number in each:
            bird_files.save(root / name / f"{number}.png", (0, 0, 0))
    return root


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("numbers", "options", "said"),
    [
        ({"cat": (0, 1), "dog": (0, 1)}, (), "every-tenth takes none of the 4 training images in {few} for validation; "
         "set data.validation=0.3, add images, or put the class folders into train/, and some into val/."),
        ({"cat": (2, 8), "dog": (1, 6)}, ("--set", "data.validation=0.3"), "set data.validation=0.7, add images"),
        ({"cat": (0,), "dog": (0,)}, (), "each class has one image, which is trained on: add images, or put the class"),
    ],
)  # fmt: skip
def test_data_with_nothing_to_validate_with_is_refused_before_a_run_is_made(
    tmp_path: Path, command: tuple[str, ...], numbers: dict[str, tuple[int, ...]], options: tuple[str, ...], said: str
) -> None:
    root, runs = few(tmp_path / "few", numbers), tmp_path / "runs"
    for named in (("--data", f"{root}"), ("--set", f"data.path={root}")):
        result = CliRunner().invoke(cifartui, [*command, "photos/frozen", *named, *options, "--runs-dir", str(runs)])
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
        assert said.replace("{few}", str(root)) in result.stderr
        assert not runs.exists() or not list(runs.iterdir())


def test_every_seed_must_have_an_image_to_validate_with(tmp_path: Path) -> None:
    root = few(tmp_path / "few", {"cat": (2, 8), "dog": (1, 6)})
    preset = catalog.load("photos/frozen", (f"data.path={root}", "data.validation=0.6"))  # none with seed 0
    check_needed(preset, None, RunOptions(seed=4))
    for options in (RunOptions(), RunOptions(seeds=(4, 0))):
        with pytest.raises(CifartuiError, match=r"= 0\.6 takes none of the 4 .* set data\.validation=0\.7"):
            check_needed(preset, None, options)


def test_a_folder_that_takes_long_to_list_is_left_to_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = catalog.load("photos/frozen", (f"data.path={few(tmp_path / 'few', {'cat': (0,), 'dog': (0,)})}",))
    with pytest.raises(CifartuiError, match="each class has one image"):
        check_needed(preset, None)
    monkeypatch.setattr(needed_files, "_LISTED_WITHIN_S", -1.0)
    check_needed(preset, None)


def test_an_archive_is_judged_once_it_is_unpacked(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "few"), "zip", few(tmp_path / "few", {"cat": (0, 1), "dog": (0, 1)}))
    preset = catalog.load("photos/frozen", (f"data.path={archive}",))
    check_needed(preset, None)
    unpack(Path(archive), lambda done, total: None)
    with pytest.raises(CifartuiError, match=rf"images in {archive} for validation; set data.validation=0\.3"):
        check_needed(preset, None)


def test_what_is_there_or_is_downloaded_or_is_generated_is_not_refused(photos: Path) -> None:
    for name, overrides in (
        ("demo", ()),
        ("basenet", ()),
        ("basenet", ("data.dataset=cifar10",)),
        ("photos/frozen", (f"data.path={photos}",)),
        ("photos/frozen", (f"data.path={photos}", f"model.weights={photos}/cat/1.png")),
    ):
        check_needed(catalog.load(name, overrides), None)


def test_a_library_that_is_not_installed_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needed_files, "find_spec", lambda _name: None)
    with pytest.raises(CifartuiError, match=r'model.source = "timm" needs the library timm: install it'):
        check_needed(catalog.load("photos/frozen", (f"data.path={photos}", "model.source=timm")), None)


def test_weights_that_may_not_be_read_are_said(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = photos / "cat/1.png"
    monkeypatch.setattr("os.access", lambda path, _mode: path != weights)  # root may read everything
    with pytest.raises(CifartuiError, match=r"The weights .*1.png cannot be read \(Permission denied\)"):
        check_needed(catalog.load("photos/frozen", (f"data.path={photos}", f"model.weights={weights}")), None)
