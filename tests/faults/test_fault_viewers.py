"""Viewers whose run goes away beneath them."""

import shutil
import subprocess
import sys
from collections.abc import Callable

from engine.runs.run_dir import RunDir
from tests.ui.conftest import environment, until
from tests.waiting import PATIENCE_S
from tests.workers import HOME, ForkWorker
from tui.app import CifartuiApp
from tui.data.run_list import RunLister
from tui.screens.monitor import Monitor

Make = Callable[..., RunDir]


async def test_a_dashboard_says_that_its_run_was_deleted(tiny: Make) -> None:
    run = tiny()
    run.events.touch()
    app = CifartuiApp(run.path.parent, attach=run, environment=environment())
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, Monitor) and app.screen.info, "the run")
        screen = app.screen
        assert isinstance(screen, Monitor)
        shutil.rmtree(run.path)
        notice = screen.query_one("#unreadable")
        await until(pilot, lambda: notice.display, "the news")
        assert f"Run {run.id} is gone" in str(notice.render())
        assert not screen.is_live
        await pilot.press("s", "escape")
        await until(pilot, lambda: not isinstance(app.screen, Monitor), "Home")


def test_who_follows_a_run_that_is_deleted_is_told(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny(epochs=50_000)
    fork_worker(run).trains()
    script = f"""
import sys
from pathlib import Path
from engine.runs.run_dir import RunDir
from tui.cli.follow import follow
from tui.cli.interrupts import Interrupts
print("following", flush=True)
sys.exit(follow(RunDir(Path({str(run.path)!r})), "quiet", Interrupts()))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "following\n"
        shutil.rmtree(run.path, ignore_errors=True)
        shutil.rmtree(run.path, ignore_errors=True)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, told) == (
        1, f"Run {run.id} is gone: {run.path} was deleted or moved, and its worker ends with it.\n",
    )  # fmt: skip


def test_a_list_goes_on_without_a_run_that_was_deleted(tiny: Make, fork_worker: ForkWorker) -> None:
    kept, deleted = tiny(), tiny(epochs=50_000)
    fork_worker(kept).ends()
    lister = RunLister(kept.path.parent, lambda: 0.0)
    assert {summary.id for summary in lister.list().runs} == {kept.id, deleted.id}
    shutil.rmtree(deleted.path)
    assert {summary.id for summary in lister.list().runs} == {kept.id}
