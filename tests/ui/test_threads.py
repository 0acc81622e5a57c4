"""Threads of the screens: there are enough of them, and what they find out is told wherever the user is by then."""

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.journal import jsonl
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from presets.errors import CifartuiError
from tests.ui.conftest import environment, until
from tests.ui.sample_run import training
from tui.app import CifartuiApp
from tui.screens.home import Home
from tui.screens.monitor import Monitor


async def test_a_stop_is_written_on_the_smallest_machine(runs_dir: Path) -> None:
    small = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(small)
    with training(runs_dir) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
        async with app.run_test() as pilot:
            await until(pilot, lambda: isinstance(app.screen, Monitor) and app.screen.is_live, "the run")
            await pilot.press("s")
            await until(
                pilot,
                lambda: run.folder.commands.exists() and jsonl.command_reader(run.folder.commands).read(),
                "the command to stop",
            )
    small.shutdown(wait=False)


async def test_what_became_of_a_key_is_told_where_its_screen_was_left(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def append(path: Path, line: bytes) -> None:
        assert goes_on.wait(20)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jsonl, "_append", append)
    with training(runs_dir) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
        async with app.run_test() as pilot:
            await until(pilot, lambda: isinstance(app.screen, Monitor) and app.screen.is_live, "the run")
            await pilot.press("s", "escape")
            await until(pilot, lambda: not isinstance(app.screen, Monitor), "Home")
            goes_on.set()
            await until(pilot, lambda: [note for note in app._notifications if "disk full" in note.message], "why not")


@pytest.mark.parametrize("problem", ["", "There is no such device."])
async def test_a_start_is_asked_for_once_and_then_can_be_asked_again(runs_dir: Path, problem: str) -> None:
    goes_on = threading.Event()
    asked: list[str] = []
    with training(runs_dir) as run:

        def start(runs_dir: Path, name: str, options: RunOptions) -> RunDir:
            asked.append(name)
            assert goes_on.wait(20)
            if problem:
                raise CifartuiError(problem)
            return run.folder

        app = CifartuiApp(runs_dir, environment=environment(start=start))
        async with app.run_test() as pilot:
            home = app.screen
            assert isinstance(home, Home)
            home.start("demo", RunOptions())
            home.start("demo", RunOptions())
            goes_on.set()
            await until(pilot, lambda: not home._is_starting, "the answer")
            assert asked == ["demo"]
            if problem:
                assert problem in [note.message for note in app._notifications]
            else:
                assert isinstance(app.screen, Monitor)
