"""Threads of the screens: there are enough of them, and what they find out is told wherever the user is by then."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.runs import journal
from tests.ui.conftest import surroundings, until
from tests.ui.sample_run import training
from tui.app import CifartuiApp
from tui.screens.monitor import Monitor


async def test_a_stop_is_written_on_the_smallest_machine(runs_dir: Path) -> None:
    small = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(small)
    with training(runs_dir) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, surroundings=surroundings())
        async with app.run_test() as pilot:
            await until(pilot, lambda: isinstance(app.screen, Monitor) and app.screen.is_live, "the run")
            await pilot.press("s")
            await until(
                pilot,
                lambda: run.folder.commands.exists() and journal.command_reader(run.folder.commands).read(),
                "the wish to stop",
            )
    small.shutdown(wait=False)
