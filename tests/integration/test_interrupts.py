"""Signals to the program at its start, and to commands that start workers, at the very place that a test names."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from engine.queue.queue_file import runner_lives
from engine.runs.run_dir import RunDir, list_runs
from tests.fork_client import ForkServer
from tests.integration.test_terminal_words import environment, modes_left_on, read_to_the_end
from tests.waiting import PATIENCE_S, wait_for

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
        "sys.argv[0] = 'cifartui'\n"
        "import cifartui\nfrom tests import fork_client\n"
        "(fork_client if fork_client.ADDRESS in os.environ else cifartui).main()"
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


# --- a worker that is being started ----------------------------------------------------------------

SMALL = ("--set", "data.train_limit=640", "--set", "train.batch_size=32", "--device", "cpu")
LONG = ("train", "demo", "--epochs", "500", *SMALL)
CREATED, STARTED = "engine.runs.run_dir:create", "engine.runs.start:start_worker"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def signalled_cifartui(runs_dir: Path, fork_server: ForkServer) -> Run:
    """Run the command line, which signals itself at a place; its workers are forked."""

    def run(place: str, numbers: list[signal.Signals], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", signalled(place, *numbers), *arguments],
            env={**environment(runs_dir), **fork_server.variables, "http_proxy": "http://127.0.0.1:9"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    return run


def the_only(runs_dir: Path, ended: subprocess.CompletedProcess[str]) -> RunDir:
    """Return the run of a command, which said its id and no traceback."""
    (run,) = list_runs(runs_dir)
    assert f": run {run.id}" in ended.stdout
    assert "Traceback" not in ended.stderr
    return run


@pytest.mark.parametrize("place", [CREATED, STARTED])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_worker_is_started_stops_a_run_whose_id_is_said(
    signalled_cifartui: Run, runs_dir: Path, place: str, number: signal.Signals, code: int
) -> None:
    ended = signalled_cifartui(place, [number], *LONG)
    assert ended.returncode == code
    assert "sked to stop" in ended.stderr
    assert the_only(runs_dir, ended).read_state().phase == "stopped"


@pytest.mark.parametrize("arguments", [LONG, ("lr-find", "demo", "--steps", "9000", *SMALL)])
def test_a_hang_up_while_a_worker_is_started_leaves_a_run_that_trains(
    signalled_cifartui: Run, runs_dir: Path, arguments: tuple[str, ...]
) -> None:
    ended = signalled_cifartui(CREATED, [signal.SIGHUP], *arguments)
    assert ended.returncode == 129
    run = the_only(runs_dir, ended)
    assert f"training goes on. Watch it with: cifartui attach {run.id}" in ended.stderr
    wait_for(lambda: run.read_state().steps, "training")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_while_a_detached_run_is_started_says_how_to_watch_and_end_it(
    signalled_cifartui: Run, runs_dir: Path, number: signal.Signals
) -> None:
    ended = signalled_cifartui(STARTED, [number], *LONG, "--detach")
    assert ended.returncode == 128 + number
    run = the_only(runs_dir, ended)
    assert ended.stderr == (
        f"It trains on. Watch it with: cifartui attach {run.id}\nEnd it with: cifartui stop {run.id}\n"
    )
    assert run.worker_lives()


def test_a_signal_while_a_worker_is_started_to_go_on_stops_it(
    signalled_cifartui: Run, demo: Callable[..., RunDir], runs_dir: Path
) -> None:
    demo("train.epochs=500")
    ended = signalled_cifartui(STARTED, [signal.SIGINT], "resume", "latest")
    assert ended.returncode == 130
    assert the_only(runs_dir, ended).read_state().phase == "stopped"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_while_the_runner_is_started_is_told_after_it(
    signalled_cifartui: Run, runs_dir: Path, number: signal.Signals
) -> None:
    ended = signalled_cifartui("engine.queue.queue_file:write", [number], "queue", "add", "demo", *SMALL)
    assert (ended.returncode, ended.stderr) == (128 + number, "")
    assert ended.stdout == "demo put into the queue; see whose turn it is with: cifartui queue\n"
    wait_for(lambda: list_runs(runs_dir), "the run of the queue")
    wait_for(lambda: not runner_lives(runs_dir), "the end of the queue")


def test_a_step_whose_follower_a_hang_up_ended_is_the_last_and_what_is_left_is_said(
    signalled_cifartui: Run, runs_dir: Path
) -> None:
    asked = ("ablation", "0", "1", "2", "--epochs-scale", "0.5", "--device", "cpu")
    ended = signalled_cifartui(STARTED, [signal.SIGHUP], "--data-dir", str(runs_dir.parent), *asked)
    assert ended.returncode == 129
    run = the_only(runs_dir, ended)
    said = ended.stderr.splitlines()
    assert said[-2:] == [
        "Not trained: ablation/step-01, ablation/step-02. Train them with:",
        "    cifartui ablation ablation/step-01 ablation/step-02 --set train.epochs_scale=0.5 --device cpu "
        f"--data-dir {runs_dir.parent}",
    ]
    assert f"cifartui attach {run.id}" in said[-3]
