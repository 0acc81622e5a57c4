"""Completion as bash, zsh and fish do it, by the scripts that `cifartui completion` prints."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 20
RUN = "20261129T153000-vgg-custom-ab12"
_START = {
    "bash": ("--norc", "--noprofile", "-i"),
    "zsh": ("-f", "-i"),
}
_SET_UP = {
    "bash": "bind 'set enable-bracketed-paste off'; PS1=; source ./script; echo rea''dy",
    "zsh": (
        "unset zle_bracketed_paste; unsetopt prompt_sp; PS1=; autoload -Uz compinit; compinit -u; source ./script; "
        "echo rea''dy"
    ),
}
LINES = [
    ("cifartui compl", "cifartui completion "),
    ("cifartui train vgg-custom-", "cifartui train vgg-custom-5 "),
    ("cifartui show vgg", "cifartui show vgg-custom-ab12 "),
    ("A=1 cifartui attach lat", "A=1 cifartui attach latest "),
    ("cifartui train demo --set train.tf", "cifartui train demo --set train.tf32="),
    ("cifartui train demo --set train.tf32=f", "cifartui train demo --set train.tf32=false "),
    ("cifartui train --set=optimizer.name=ada", "cifartui train --set=optimizer.name=adamw "),
    ("cifartui train --data photogr", "cifartui train --data photographs/"),
    ("cifartui train --data=photogr", "cifartui train --data=photographs/"),
    ("cifartui train --set data.path=photogr", "cifartui train --set data.path=photographs/"),
    ("cifartui --runs-dir photogr", "cifartui --runs-dir photographs/"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return an environment with `cifartui` on the PATH, a run, and a home with a folder of photographs."""
    home = tmp_path_factory.mktemp("home")
    program = home / "bin/cifartui"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cifartui "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (home / "photographs").mkdir()
    run = home / "runs" / RUN
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}", encoding="utf-8")
    return {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CIFARTUI_RUNS": str(run.parent),
        "TERM": "xterm",
    }


def script(shell: str, environment: dict[str, str]) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return subprocess.run(
        ["cifartui", "completion", shell], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


class Prompt:
    """A shell in a terminal, with completion switched on and an empty prompt."""

    def __init__(self, shell: str, environment: dict[str, str]) -> None:
        home = Path(environment["HOME"])
        (home / "script").write_text(script(shell, environment), encoding="utf-8")
        self._screen = pyte.Screen(200, 40)
        self._stream = pyte.ByteStream(self._screen)
        self.process = pexpect.spawn(
            shell, list(_START[shell]), env=environment, cwd=str(home), dimensions=(40, 200), timeout=_PATIENCE_S
        )
        self.process.sendline(_SET_UP[shell])
        self.process.expect_exact("ready\r\n")

    def type(self, keys: str) -> None:
        self.process.send(keys)

    def line(self) -> str:
        """Return the line that is typed, up to the cursor."""
        with contextlib.suppress(pexpect.TIMEOUT):
            self._stream.feed(self.process.read_nonblocking(65_536, timeout=0.1))
        return self._screen.display[self._screen.cursor.y][: self._screen.cursor.x]


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell_prompt(
    request: pytest.FixtureRequest, environment: dict[str, str], kept_processes: set[int]
) -> Iterator[Prompt]:
    prompt = Prompt(request.param, environment)
    kept_processes.add(prompt.process.pid)
    yield prompt
    prompt.process.close(force=True)
    kept_processes.discard(prompt.process.pid)


@pytest.fixture
def prompt(shell_prompt: Prompt) -> Prompt:
    """Return a shell's prompt with nothing typed at it."""
    shell_prompt.type("\x15")
    wait_for(lambda: shell_prompt.line() == "", "an empty line", patience_s=_PATIENCE_S)
    return shell_prompt


@pytest.mark.parametrize(("line", "completed"), LINES)
def test_a_tab_completes_the_line(prompt: Prompt, line: str, completed: str) -> None:
    prompt.type(f"{line}\t")
    wait_for(lambda: prompt.line() == completed, f"{completed!r}", patience_s=_PATIENCE_S)


@pytest.mark.parametrize(("line", "completed"), LINES)
def test_fish_completes_the_last_word(environment: dict[str, str], line: str, completed: str) -> None:
    code = f"{script('fish', environment)}\ncomplete -C '{line}'"
    found = subprocess.run(
        ["fish", "--no-config", "-c", code],
        env=environment, cwd=environment["HOME"], capture_output=True, text=True, timeout=_PATIENCE_S, check=True,
    )  # fmt: skip
    assert [row.split("\t")[0] for row in found.stdout.splitlines()] == [completed.split()[-1]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_variable_of_click_gives_the_same_script(environment: dict[str, str], shell: str) -> None:
    asked = {**environment, "_CIFARTUI_COMPLETE": f"{shell}_source"}
    found = subprocess.run([sys.executable, "-m", "cifartui"], env=asked, capture_output=True, text=True, check=True)
    printed = [sys.executable, "-m", "cifartui", "completion", shell]
    assert found.stdout == subprocess.run(printed, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.alone
@pytest.mark.parametrize("line", ["cifartui ", "cifartui show ", "cifartui train basenet --set optimizer."])
def test_an_answer_comes_in_less_than_three_tenths_of_a_second(environment: dict[str, str], line: str) -> None:
    asked = {**environment, "_CIFARTUI_COMPLETE": "fish_complete", "COMP_LINE": line}
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cifartui"], env=asked, capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.3
