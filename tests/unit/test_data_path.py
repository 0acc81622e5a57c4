"""Data named by a path: what it is taken for, what is refused, and that every command with --data takes it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.queue import queue_file
from engine.runs import start
from engine.runs.run_dir import create, list_runs
from engine.shared.data_path import data_at, with_data
from presets import catalog
from presets.errors import CifartuiError
from tests import bird_files, cifar_files
from tui.cli import evaluate
from tui.cli.main import cifartui


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders with parts."""
    folder = tmp_path / "my photos"
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(12):
                bird_files.save(folder / part / name / f"{number}.png", (number, 0, 0))
    return folder


@pytest.mark.parametrize("form", ["archive", "renamed archive", "folder", "folder above"])
def test_cifar100_stays_cifar100(form: str, tmp_path: Path) -> None:
    if form == "folder" or form == "folder above":
        cifar_files.write_folder(tmp_path / "cifar-100-python", cifar_files.published_files())
        path = tmp_path / "cifar-100-python" if form == "folder" else tmp_path
    else:
        name = "cifar-100-python.tar.gz" if form == "archive" else "mine.tgz"
        path = cifar_files.write_archive(tmp_path / name, "cifar-100-python", cifar_files.published_files())
    assert (data_at(str(path)).dataset, data_at(str(path)).path) == ("cifar100", str(path))


@pytest.mark.parametrize("write", [bird_files.write_2010, bird_files.write_2011, bird_files.write_2010_archives])
def test_forms_of_cub200_stay_cub200(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert data_at(str(write(tmp_path))).dataset == "cub200"


def test_other_folders_are_class_folders_and_paths_absolute(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("HOME", str(photos.parent))
    for named in ("my photos", "~/my photos", str(photos)):
        assert data_at(named).overrides == ("data.dataset=class-folders", f'data.path="{photos}"')


@pytest.mark.parametrize("name", ['a "quoted" one', "back\\slash", "Ünï 😀", "[1, 2]", "\u202eright to left"])
def test_a_preset_has_the_path_as_it_is(name: str, photos: Path) -> None:
    renamed = photos.rename(photos.parent / name)
    assert catalog.load("demo", data_at(str(renamed)).overrides).data.path == str(renamed)


def test_what_is_no_data_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8b nothing")
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    os.mkfifo(tmp_path / "pipe")
    for wrong in (b"\xff", b"two\nlines", b"\x7f"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + wrong)).mkdir()
    for name, said in (
        ("gone", "does not exist; name a folder"),
        ("notes.txt/inside", "does not exist; name a folder"),
        ("a\0b", "does not exist; name a folder"),
        ("empty", "no class folders with images"),
        ("notes.txt", "is a file, and no archive (zip, tar) or table (csv, tsv)"),
        ("broken.tar.gz", "is no archive that can be read; fetch it again."),
        ("broken.zip", "is no archive that can be read; fetch it again."),
        ("pipe", "is neither a folder nor a file"),
        ("\udcff", "characters in its name that a preset cannot hold"),
        ("two\nlines", "characters in its name that a preset cannot hold"),
        ("\x7f", "characters in its name that a preset cannot hold"),
    ):
        with pytest.raises(CifartuiError) as caught:
            data_at(f"{tmp_path}/{name}")
        assert said in str(caught.value)
        assert str(caught.value).isprintable()


def test_archives_and_tables_are_named_like_folders(photos: Path) -> None:
    archive = shutil.make_archive(str(photos.parent / "photos"), "gztar", photos)
    assert data_at(archive).overrides == ("data.dataset=class-folders", f'data.path="{archive}"')
    table = photos / "labels.csv"
    table.write_text("file,label\ntrain/cat/0,a\ntrain/dog/0,b\n")
    assert data_at(str(table)).path == str(table)
    loose = photos.parent / "loose"
    for number in range(2):
        bird_files.save(loose / f"{number}.png", (number, 0, 0))
    (loose / "labels.csv").write_text("file,label\n0,a\n1,b\n")
    with pytest.raises(CifartuiError, match=r"data\.labels=labels\.csv\.$"):
        with_data(str(loose), ())
    assert with_data(str(loose), ("data.labels=labels.csv",))[1] == f'data.path="{loose}"'


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_an_archive_by_another_name_is_refused_with_the_name_that_it_needs(form: str, photos: Path) -> None:
    archive = Path(shutil.make_archive(str(photos.parent / "photos"), form, photos))
    renamed = archive.rename(photos.parent / "flat.dat")
    kind = "zip" if form == "zip" else "tar"
    with pytest.raises(CifartuiError) as raised:
        data_at(str(renamed))
    assert str(raised.value) == (
        f"{renamed} is a {kind} archive inside, and not named like one; rename it to flat.dat.{kind}."
    )
    assert data_at(str(renamed.rename(f"{renamed}.{kind}"))).dataset == "class-folders"


@pytest.mark.parametrize("content", [b"", bytes(10_240), b"text", b"\x1f\x8bnothing"])
def test_a_file_of_anything_else_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "flat.dat").write_bytes(content)
    with pytest.raises(CifartuiError, match="is a file, and no archive"):
        data_at(str(tmp_path / "flat.dat"))


@pytest.mark.parametrize("other", ['data.path="/x"', 'data={path = "/x"}'])
def test_two_paths_contradict_each_other(other: str, photos: Path) -> None:
    with pytest.raises(CifartuiError, match="both name the data; leave one out"):
        with_data(str(photos), [other])


def test_other_keys_of_data_may_be_set_beside_it(photos: Path) -> None:
    assert with_data(None, ("a.b=1",)) == ("a.b=1",)
    overrides = with_data(str(photos), ("data={image_size = 64}", "data.dataset=cub200"))
    data = catalog.load("photos/frozen", overrides).data
    assert (data.path, data.image_size, data.dataset) == (str(photos), 64, "cub200")


# --- commands ----------------------------------------------------------------------------------------


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cifartui, [str(each) for each in arguments])


@pytest.fixture(autouse=True)
def _starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "start_worker", lambda *_args, **_kwargs: 0)
    monkeypatch.setattr(queue_file, "start_runner", lambda *_args, **_kwargs: None)


@pytest.mark.parametrize(
    "command",
    [("train", "demo", "--prepare"), ("train", "demo", "--detach"), ("lr-find", "demo", "--detach")],
    ids=" ".join,
)
def test_a_run_gets_the_data(command: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    result = call(*command, "--data", photos, "--runs-dir", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    (run,) = list_runs(tmp_path / "runs")
    data = run.read_info().preset.data
    assert (data.dataset, data.path) == ("class-folders", str(photos))


def test_queued_presets_get_the_data(photos: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert call("queue", "add", "demo", "photos/frozen", "--data", photos, "--runs-dir", runs).exit_code == 0
    for entry in queue_file.entries(runs):
        assert catalog.load(entry.preset_name, entry.overrides).data.path == str(photos)
    assert len(queue_file.entries(runs)) == 2


@pytest.mark.parametrize(
    "command",
    [("train", "demo"), ("train", "demo", "--name", "mine"), ("lr-find", "demo"), ("queue", "add", "demo")],
    ids=" ".join,
)
def test_wrong_data_is_said_before_anything_is_made(command: tuple[str, ...], tmp_path: Path) -> None:
    result = call(*command, "--data", tmp_path / "gone", "--runs-dir", tmp_path / "runs")
    assert result.exit_code == 2
    assert result.stderr == f"cifartui: {tmp_path / 'gone'} does not exist; name a folder of images.\n"
    assert not (tmp_path / "runs").exists()


def test_the_preset_described_says_what_was_replaced(photos: Path) -> None:
    text = call("presets", "basenet", "--data", photos).output
    assert f"Class folders in {photos}, in place of CIFAR-100.\n" in text
    assert f'  path = "{photos}"\n' in text
    assert "in place of" not in call("presets", "basenet").output
    assert call("presets", "--data", photos).exit_code == 2


def test_an_evaluation_gets_the_data_and_keeps_the_settings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def ask(module: str, arguments: list[str]) -> bytes:
        asked.append(arguments)
        raise CifartuiError("that is all.")

    monkeypatch.setattr(evaluate, "run_module", ask)
    run = create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    monkeypatch.chdir(photos.parent)
    assert "that is all" in call("evaluate", run.id, "--data", photos.name, "--runs-dir", tmp_path / "runs").stderr
    assert asked[0][-2:] == ["--data", str(photos)]
    result: Any = call("evaluate", run.id, "--data", "gone", "--runs-dir", tmp_path / "runs")
    assert (result.exit_code, "does not exist" in result.stderr, len(asked)) == (2, True, 1)


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, engine.shared.data_path; print(sorted({'torch', 'numpy', 'pooch', 'PIL'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("named", ["", " "])
def test_an_empty_path_is_not_the_current_folder(named: str) -> None:
    with pytest.raises(CifartuiError, match="The path of the data is empty"):
        data_at(named)
