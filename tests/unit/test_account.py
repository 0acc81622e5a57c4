"""Accounts without a usable home or working directory: one sentence, exit 2, for the dashboard and every command."""

import os
import pwd
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from engine import files
from presets.errors import CifartuiError
from tests.other_user import NOBODY, as_another_user
from tui.account import check_account
from tui.cli.main import _modules, cifartui
from tui.config import read_config
from tui.main import open_as_configured

HOMELESS = 4711
"""A user who is in no list."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    for above in (folder, *folder.parents[:-1]):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o011)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_a_home_that_is_unset_empty_or_relative_is_taken_from_the_list_of_users(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("HOME") if value is None else monkeypatch.setenv("HOME", value)
    check_account()
    assert "HOME" not in os.environ  # so that children in other working directories find the same
    assert files.expanded("~/x") == Path(pwd.getpwuid(os.getuid()).pw_dir) / "x"


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_who_has_no_home_and_is_in_no_list_of_users_is_told_to_set_one(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    def getpwuid(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.delenv("HOME") if value is None else monkeypatch.setenv("HOME", value)
    with pytest.raises(CifartuiError, match=r"There is no home folder: .* no user [0-9]+; set HOME"):
        check_account()


def test_a_user_in_no_list_with_a_home_of_his_own_works(home: Path, tmp_path: Path) -> None:
    home.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(home, HOMELESS, HOMELESS)
    import_module("tui.cli.runs")  # whoever is nobody here may not read it
    code, said = as_another_user(tmp_path, lambda: cifartui(["runs"]), HOMELESS)
    assert (code, "No runs in" in said) == (0, True), said


def test_a_home_of_another_user_is_one_sentence(home: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(home, HOMELESS, HOMELESS)
    code, said = as_another_user(tmp_path, lambda: cifartui(["runs"]))
    assert code == 2
    assert said == (
        f"cifartui: The home folder {home} cannot be used (it belongs to user {HOMELESS}, not to you); "
        "set HOME to a folder of yours: export HOME=/path/to/it\n"
    )


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_home_that_cannot_be_read_is_one_sentence_for_the_dashboard_and_every_command(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    home.chmod(0)
    monkeypatch.setenv("HOME", str(home / inside))
    sentence = f"cifartui: The home folder {home / inside} cannot be used (Permission denied); set HOME"
    code, said = as_another_user(tmp_path, lambda: sys.exit(open_as_configured()))
    assert code == 2
    assert said.startswith(sentence), said
    assert said.count("\n") == 1

    def every_command() -> None:
        for name in _modules() if os.geteuid() else ():  # as root they would do what they are for
            with pytest.raises(SystemExit) as end:
                cifartui([name])
            print(name, end.value.code)

    with click.Context(cifartui) as ctx:
        for name in _modules():
            cifartui.get_command(ctx, name)  # whoever is nobody here may not read it
    code, said = as_another_user(tmp_path, every_command)
    assert code == 0, said
    told = [line for line in said.splitlines() if line.startswith("cifartui: ")]
    assert all(line.startswith(sentence) for line in told), said
    assert [line for line in said.splitlines() if line not in told] == [f"{name} 2" for name in _modules()]
    assert len(told) == len(_modules())


def test_a_home_that_is_a_file_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("HOME", str(home / "file"))
    with pytest.raises(CifartuiError, match="is no folder; set HOME"):
        check_account()


def test_a_home_that_is_not_made_yet_is_fine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home / "new"))
    check_account()


@pytest.mark.parametrize("command", [(), *((name,) for name in _modules())])
def test_a_deleted_working_directory_is_one_sentence_for_the_dashboard_and_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    before, gone = Path.cwd(), tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        if command:
            with pytest.raises(SystemExit) as end:
                cifartui(command)
            code = end.value.code
        else:
            code = open_as_configured()
    finally:
        os.chdir(before)
    assert code == 2
    assert capfd.readouterr().err == (
        "cifartui: The working directory was deleted; go to another one, for example: cd\n"
    )


@pytest.mark.slow
def test_the_program_itself_says_it(tmp_path: Path) -> None:
    """Python starts in a deleted directory too."""
    gone = tmp_path / "gone"
    gone.mkdir()
    root = Path(__file__).parents[2]
    line = f"import os, sys; os.rmdir({str(gone)!r}); sys.path[:0] = [{str(root)!r}]; import cifartui; cifartui.main()"
    done = subprocess.run([sys.executable, "-c", line], cwd=gone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("cifartui: The working directory was deleted")


def test_a_configuration_below_a_folder_that_cannot_be_read_is_one_sentence(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(closed))

    def read() -> None:
        try:
            read_config()
        except CifartuiError as error:
            print(error)
            sys.exit(2)

    code, said = as_another_user(tmp_path, read)
    assert (code, said) == (
        2,
        f"{closed}/cifartui/config.toml cannot be read (Permission denied); check its name and permissions.\n",
    )


def test_a_user_that_is_not_there_is_no_traceback() -> None:
    assert files.expanded("~no-such-user/runs") == Path("~no-such-user/runs")
