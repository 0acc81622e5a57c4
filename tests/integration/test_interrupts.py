"""Signals to the program at its start, and to commands that start workers, at the very place that a test names."""

import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.integration.test_terminal_words import environment, modes_left_on, read_to_the_end

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
IMPORT = """
import os, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {place!r}:
            sys.meta_path.remove(Finder)
            [os.kill(os.getpid(), number) for number in {numbers}]
sys.meta_path.insert(0, Finder)
"""
CALL = """
import functools, importlib, os, sys
owner, (*parents, name) = importlib.import_module({module!r}), {path!r}.split(".")
for parent in parents:
    owner = getattr(owner, parent)
original, left = getattr(owner, name), {numbers}
@functools.wraps(original)
def called(*arguments, **named):
    answer = original(*arguments, **named)
    while left:
        os.kill(os.getpid(), left.pop(0))
    return answer
setattr(owner, name, called)
"""


def signalled(place: str, *numbers: int) -> str:
    """Return a program: cifartui that signals itself as a module is imported, or after the first `module:call`."""
    module, _, path = place.partition(":")
    code = CALL if path else IMPORT
    return code.format(place=place, module=module, path=path, numbers=[*map(int, numbers)]) + (
        "sys.argv[0] = 'cifartui'\nimport cifartui\ncifartui.main()"
    )


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "place", ["tui.main", "textual.app", "tui.app:CifartuiApp.__init__", "tui.app:CifartuiApp.on_load"]
)
def test_a_signal_before_the_first_screen_leaves_the_terminal_untouched(
    runs_dir: Path, place: str, number: signal.Signals
) -> None:
    process = pexpect.spawn(sys.executable, ["-c", signalled(place, number)], env=environment(runs_dir))
    assert read_to_the_end(process) == b""
    assert process.signalstatus == number


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("place", ["__init__", "start_application_mode", "stop_application_mode"])
def test_a_signal_as_the_driver_comes_or_goes_leaves_the_terminal_as_it_was(
    runs_dir: Path, place: str, number: signal.Signals
) -> None:
    code = signalled(f"tui.terminal.driver:DiffDriver.{place}", number)
    process = pexpect.spawn(sys.executable, ["-c", code], env=environment(runs_dir), dimensions=(24, 80))
    if place == "stop_application_mode":
        process.expect_exact("demo", timeout=30)
        process.send("q")
    received = read_to_the_end(process)
    assert process.exitstatus == 128 + number
    assert modes_left_on(received) == set()
    assert b"Traceback" not in received


@pytest.mark.parametrize("arguments", [["runs"], ["attach", "latest"]])
@pytest.mark.parametrize("place", ["click", "tui.cli.runs", "engine.runs.run_dir:default_runs_dir"])
def test_ctrl_c_ends_a_command_without_a_traceback(runs_dir: Path, place: str, arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", signalled(place, signal.SIGINT), *arguments],
        env=environment(runs_dir), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode in {-signal.SIGINT, 128 + signal.SIGINT}
    assert (ended.stdout, ended.stderr) in {("", ""), ("", "Interrupted.\n")}
