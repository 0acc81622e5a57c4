"""Files that commands write to a path of the user's: what lies there, or could be put there, by others."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runs import image_predictions
from engine.runs.find_run import find_model
from presets.errors import CifartuiError
from tests.other_user import as_another_user
from tui.cli import export
from tui.cli.main import cifartui
from tui.data import output_file
from tui.screens import run_actions

KEPT = Path(__file__).parents[1] / "data/run-0.1.0"
TOO_LONG = "x" * 300


def _by_path(path: Path, force: bool) -> None:
    with output_file.new_path(path, force=force) as temporary:
        temporary.unlink()
        temporary.write_bytes(b"new")
        temporary.chmod(0o600)  # as safetensors does


def _by_file(path: Path, force: bool) -> None:
    output_file.write_new(path, b"new", force=force)


BOTH = pytest.mark.parametrize("write", [_by_path, _by_file])
Write = Callable[[Path, bool], None]


@BOTH
def test_a_link_that_was_put_under_the_temporary_name_is_not_written_through(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user of a shared folder may guess a name, but not a random one; and what is there ends the writing."""
    victim, path = tmp_path / "victim", tmp_path / "out.csv"
    victim.write_bytes(b"old")
    for guessed in (".out.csv", f".out.csv.{os.getpid()}", f".out.{os.getpid()}.csv"):
        (tmp_path / guessed).symlink_to(victim)
    write(path, False)
    assert (path.read_bytes(), victim.read_bytes()) == (b"new", b"old")
    assert not path.is_symlink()
    monkeypatch.setattr(os, "urandom", lambda number: bytes(number))
    (tmp_path / f".{bytes(8).hex()}.csv").symlink_to(victim)
    with pytest.raises(CifartuiError, match=r"out\.csv cannot be written \(File exists\)"):
        write(path, True)
    assert (path.read_bytes(), victim.read_bytes()) == (b"new", b"old")


@BOTH
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_regular_file_is_not_written_over(write: Write, force: bool, tmp_path: Path) -> None:
    """`--csv /dev/null --force` of root would put a file in the place of the device."""
    pipe, link = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)
    for path, said in ((pipe, "no regular file"), (link, "no regular file"), (tmp_path, "a folder")):
        with pytest.raises(CifartuiError, match=f"is {said}; name a file in a folder of yours"):
            write(path, force)
    with pytest.raises(CifartuiError, match="is a folder"):
        write(Path(), force)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["null", "pipe"]


@BOTH
def test_a_file_follows_the_umask_and_leaves_nothing_beside_it(write: Write, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / ("y" * 255), False)
    finally:
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


@BOTH
@pytest.mark.parametrize("force", [False, True])
def test_a_path_that_cannot_be_is_a_sentence(write: Write, force: bool, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, why in ((tmp_path / TOO_LONG, "File name too long"), (loop, "Too many levels of symbolic links")):
        with pytest.raises(CifartuiError, match=rf"cannot be written \({why}\)"):
            write(path, force)


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        cifartui([*arguments])
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "latest", "--format", "csv", "--output"),
        ("export", "latest", "--format", "svg", "--force", "--output"),
        ("export", "latest", "--format", "tensorboard", "--output"),
        ("export", "latest", "--format", "safetensors", "--output"),
        ("compare", "latest", "latest", "--csv"),
        ("preview", "demo", "--output"),
        ("predict", "latest", "x.png", "--csv"),
        ("predict",),
        ("data",),
        ("runs", "--data-dir"),
        ("runs", "--runs-dir"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_a_sentence_for_every_command(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "20260101T000000-tiny-0000").symlink_to(KEPT)
    monkeypatch.setenv("CIFARTUI_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, said = _said(capsys, *arguments, TOO_LONG, *(["x.png"] if arguments == ("predict",) else []))
    assert code == 2
    assert said.startswith("cifartui: ")
    assert "Traceback" not in said


def test_a_name_that_is_too_long_is_a_sentence_in_the_dashboard(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "kept").symlink_to(KEPT)
    with pytest.raises(CifartuiError, match="File name too long"):
        run_actions.export(runs, "kept", "csv", str(tmp_path / TOO_LONG), None)


def test_an_image_whose_name_is_too_long_keeps_its_line(tmp_path: Path) -> None:
    for name in (TOO_LONG, f"{TOO_LONG}.zip", f"{TOO_LONG}/a.png"):
        (found,) = image_predictions.images_at(name, tmp_path)
        assert found.path is None
        assert found.problem == "it cannot be read (File name too long)"


def test_a_path_that_may_not_be_entered_is_a_sentence(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    closed.chmod(0)
    runs = tmp_path / "runs"
    runs.mkdir(mode=0o755)

    def say_all() -> None:
        for call in (
            lambda: output_file.check_new(closed / "x"),
            lambda: find_model(runs, str(closed / "x")),
            lambda: find_model(runs, str(closed / "x.onnx")),
            lambda: export._check_replaceable(closed / "x", force=True),
        ):
            try:
                call()
            except CifartuiError as error:
                print(error)
        (found,) = image_predictions.images_at(str(closed / "x"), tmp_path)
        print(found.problem)

    code, said = as_another_user(tmp_path, say_all)
    assert code == 0, said
    lines = said.splitlines()
    assert len(lines) == 5
    assert all("Permission denied" in line for line in lines), said


def test_an_export_for_tensorboard_replaces_an_earlier_one_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--output ~ --force` would have taken everything there away."""
    pytest.importorskip("tensorboard")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/20260101T000000-tiny-0000").symlink_to(KEPT)
    monkeypatch.setenv("CIFARTUI_RUNS", str(tmp_path / "runs"))
    elsewhere, photos, board = (tmp_path / name for name in ("elsewhere", "photos", "board"))
    for folder in (elsewhere, photos):
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"mine")
    (tmp_path / ".board.writing").symlink_to(elsewhere)
    monkeypatch.chdir(photos)

    def exported(output: Any, *more: str) -> tuple[int, str]:
        return _said(capsys, "export", "latest", "--format", "tensorboard", "--output", str(output), *more)

    assert exported(board)[0] == 0
    assert exported(board)[0] == 2
    assert exported(board, "--force")[0] == 0
    (event_file,) = board.iterdir()
    assert event_file.name.startswith("events.out.tfevents.")
    for output in (photos, "", ".", tmp_path):
        code, said = exported(output, "--force")
        assert code == 2
        assert "is no earlier export" in said
    assert [each.name for folder in (elsewhere, photos) for each in folder.iterdir()] == ["a.jpg", "a.jpg"]
