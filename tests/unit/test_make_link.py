"""`make link`, which `make run` begins with: the shell finds the command, or its path is said."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = "/usr/bin:/bin"
pytestmark = pytest.mark.skipif(shutil.which("make", path=TOOLS) is None, reason="needs make")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the command in an environment with a space in its name."""
    path = tmp_path / "an environment" / "bin" / "cifartui"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make_link(home: Path, program: Path, path: str) -> str:
    done = subprocess.run(
        ["make", "--silent", "-f", ROOT / "Makefile", "link", f"BIN={program.parent}"],
        env={"HOME": str(home), "PATH": path}, cwd=home, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_a_folder_on_the_path_gets_a_link_once(tmp_path: Path, program: Path) -> None:
    folder = tmp_path / ".local/bin"
    said = make_link(tmp_path, program, f"{folder}:{TOOLS}")
    assert (folder / "cifartui").readlink() == program
    assert said == f"Made the link {folder / 'cifartui'} to {program}.\n"
    assert make_link(tmp_path, program, f"{folder}:{TOOLS}") == ""


def test_no_folder_is_made_that_the_shell_does_not_look_into(tmp_path: Path, program: Path) -> None:
    said = make_link(tmp_path, program, TOOLS)
    assert not (tmp_path / ".local").exists()
    assert said.endswith(f"where it says cifartui, type {program}\n")


@pytest.mark.parametrize("kind", ["program", "file", "link that leads nowhere"])
def test_what_is_there_stays(tmp_path: Path, program: Path, kind: str) -> None:
    folder = tmp_path / ".local/bin"
    folder.mkdir(parents=True)
    there = folder / "cifartui"
    if kind == "link that leads nowhere":
        there.symlink_to(tmp_path / "gone")
    else:
        there.write_text("theirs", encoding="utf-8")
        there.chmod(0o755 if kind == "program" else 0o644)
    before = there.readlink() if there.is_symlink() else there.read_text(encoding="utf-8")
    said = make_link(tmp_path, program, f"{folder}:{TOOLS}")
    assert (there.readlink() if there.is_symlink() else there.read_text(encoding="utf-8")) == before
    assert said.endswith(f"type {program}\n")


def test_an_active_environment_needs_no_link(tmp_path: Path, program: Path) -> None:
    assert make_link(tmp_path, program, f"{program.parent}:{tmp_path}/.local/bin:{TOOLS}") == ""
    assert not (tmp_path / ".local").exists()
