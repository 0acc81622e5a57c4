"""Pictures of Home's states: the first visit, marks beside a queue, the layers, the panel before a start, help."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.ui.conftest import NO_GPU, ONE_GPU, environment, until
from tests.ui.sample_run import training
from tests.ui.test_home import said
from tests.ui.test_snapshots import several_runs
from tui.app import CifartuiApp
from tui.data.environment import Queued
from tui.display import Display
from tui.screens.dialogs import Help
from tui.screens.home import Home
from tui.screens.start_dialog import StartPanel
from tui.widgets.lists import RunList

pytestmark = pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 45)])


async def settled(pilot: Pilot[Any], *expected: tuple[str, str]) -> None:
    """Wait until everything that threads find is shown."""
    for selector, text in (("#description", "needs about"), *expected):
        await until(pilot, lambda s=selector, t=text: t in said(pilot.app, s), f"{text} in {selector}")  # type: ignore[misc]
    await until(pilot, lambda: "GPUs …" not in said(pilot.app, "#gpus"), "the GPUs")


def test_first_visit(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await settled(pilot, ("#no-runs", "no CIFAR-100 found and no GPU"), ("#description", "generated at start"))

    assert snap_compare(
        CifartuiApp(runs_dir, environment=environment(NO_GPU), display=display), terminal_size=size, run_before=ready
    )


def test_marks_and_queue(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        home = pilot.app.screen
        assert isinstance(home, Home)
        await until(pilot, lambda: home.query_one(RunList).option_count == 5, "the runs")
        await pilot.press("j", "space", "j", "space")
        await settled(pilot, ("#description", "downloaded at start"), ("#queue-row", "2 waiting"))

    several_runs(runs_dir)
    with training(runs_dir):
        queued = Queued(("ablation/step-03", "ablation/step-04"))
        app = CifartuiApp(runs_dir, environment=environment(ONE_GPU, queued=lambda runs_dir: queued), display=display)
        assert snap_compare(app, terminal_size=size, run_before=ready)


def test_layers(snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await settled(pilot, ("#description", "generated at start"))
        if size[0] < 150:
            await pilot.press("l")
        await until(pilot, lambda: "30 layers" in said(pilot.app, "#layers-heading"), "the layers")
        if size[1] < 45:  # there all of them are in sight
            await until(pilot, lambda: "more row" in said(pilot.app, "#more"), "how much is out of sight")

    assert snap_compare(
        CifartuiApp(runs_dir, environment=environment(ONE_GPU), display=display), terminal_size=size, run_before=ready
    )


def test_start_panel(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await pilot.press("j")
        await settled(pilot, ("#description", "downloaded at start"))
        await pilot.press("enter")
        panel = pilot.app.screen
        assert isinstance(panel, StartPanel)
        for field, text in (("batch", "many"), ("device", "tpu")):
            panel.query_one(f"#{field}", Input).value = text
        await until(pilot, lambda: set(panel.checked.errors) == {"batch", "device"}, "the errors")
        panel.query_one("#batch").focus()

    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU), display=display)
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=size, run_before=ready)


def test_start_panel_with_a_warning(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await pilot.press("j")
        await settled(pilot, ("#description", "downloaded at start"))
        await pilot.press("enter")
        for field in pilot.app.screen.query(Input):
            field.cursor_blink = False  # a slow machine would be caught between two blinks
        pilot.app.screen.query_one("#batch", Input).value = "512"
        await until(pilot, lambda: "lower train.batch_size" in said(pilot.app, "#fit"), "the warning")

    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU), display=display)
    assert snap_compare(app, terminal_size=size, run_before=ready)


def test_help(snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await settled(pilot, ("#no-runs", "no CIFAR-100 found"), ("#description", "generated at start"))
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, Help), "help")
        await pilot.pause()

    assert snap_compare(
        CifartuiApp(runs_dir, environment=environment(ONE_GPU), display=display), terminal_size=size, run_before=ready
    )
