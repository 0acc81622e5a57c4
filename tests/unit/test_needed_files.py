"""Data, weights and libraries that are not there are refused before a run directory is made."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.runs import needed_files
from engine.runs.needed_files import check_needed
from presets import catalog
from presets.errors import CifartuiError
from tests import bird_files
from tui.cli.main import cifartui


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        bird_files.save(tmp_path / "photos" / name / "1.png", (0, 0, 0))
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
