"""Viewers whose run goes away beneath them."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.queue import runner
from engine.runs.run_dir import RunDir
from tests.ui.conftest import environment, until
from tests.waiting import PATIENCE_S
from tests.workers import HOME, ForkWorker
from tui.app import CifartuiApp
from tui.data.run_list import RunLister
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.screens.queue import QueueScreen
from tui.screens.runs import RunsScreen

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


async def test_a_dashboard_goes_on_without_its_runs_folder(tiny: Make) -> None:
    run = tiny()
    runs_dir = run.path.parent
    run.events.touch()
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, Home), "Home")
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen), "the runs")
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        await until(pilot, lambda: screen.listed.runs, "the run")
        runs_dir.rename(runs_dir.with_name("elsewhere"))
        await pilot.press("D")
        await until(pilot, lambda: "is not a run directory" in str(screen.query_one("#message").render()), "the answer")
        screen.list_again()
        await until(pilot, lambda: not screen.listed.num_all, "an empty list")
        await pilot.press("escape", "Q")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen), "the queue")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Home), "Home again")
    assert app.crash is None
    assert not runs_dir.exists()


def test_the_queues_runner_waits_for_a_disk_that_is_away_and_ends_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    lock_fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    looks = []
    look = os.stat

    def away(path: Any, **options: Any) -> os.stat_result:
        if str(path) == str(runs_dir):
            looks.append(path)
            if len(looks) < 4:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
            shutil.rmtree(runs_dir, ignore_errors=True)
        return look(path, **options)

    monkeypatch.setattr(os, "stat", away)
    for name in ("_TRY_AGAIN_AFTER_S", "_LOOK_EVERY_S"):
        monkeypatch.setattr(runner, name, 0.01)
    work = runner._Runner(runs_dir, lock_fd, threading.Event(), "")
    monkeypatch.setattr(work, "_ended", lambda: False)
    work.work()
    os.close(lock_fd)
    assert len(looks) >= 4
    assert not runs_dir.exists()
