"""Pictures of the Runs screen and its panels, the same on every machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.conftest import environment, until
from tests.ui.sample_run import training
from tests.ui.test_runs import opened, several, told
from tui.app import CifartuiApp
from tui.display import Display
from tui.screens.run_dialogs import ConfirmDelete, DifferencePanel
from tui.widgets.plot import Plot

Size = tuple[int, int]
SIZES = [(80, 24), (120, 40), (160, 45)]
RUNS = Path("runs")
"""Relative, so that no temporary folder's name gets into a picture."""


@pytest.fixture
def snap(
    snap_compare: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: Display
) -> Callable[..., bool]:
    """Compare a picture of the app on seven runs and one that trains."""
    monkeypatch.chdir(tmp_path)

    def take(size: Size, ready: Callable[[Pilot[Any]], Any], *, empty: bool = False) -> bool:
        app = CifartuiApp(RUNS, environment=environment(), display=display)
        if empty:
            return snap_compare(app, terminal_size=size, run_before=ready)
        several(RUNS)
        with training(RUNS, epochs_done=5) as run:
            run.folder.last.write_bytes(b"x" * 1_230_000)
            return snap_compare(app, terminal_size=size, run_before=ready)

    return take


async def eight(pilot: Pilot[Any]) -> Any:
    screen = await opened(pilot, 8)
    await until(pilot, lambda: "8   by start" in told(screen, "#top"), "the table")
    await pilot.pause()
    return screen


async def three_marked(pilot: Pilot[Any]) -> Any:
    screen = await eight(pilot)
    await pilot.press("space", "space", "space")
    return screen


@pytest.mark.parametrize("size", SIZES)
def test_empty(snap: Callable[..., bool], size: Size) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        screen = await opened(pilot, 0)
        await until(pilot, lambda: "No runs in" in told(screen, "#no-rows"), "the explanation")

    assert snap(size, ready, empty=True)


@pytest.mark.parametrize("size", SIZES)
def test_all_states(snap: Callable[..., bool], size: Size) -> None:
    assert snap(size, eight)


@pytest.mark.parametrize("size", SIZES)
def test_overlay(snap: Callable[..., bool], size: Size) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        screen = await three_marked(pilot)
        if not screen.shows_overlay:
            await pilot.press("v")
        plot = screen.query_one("#over-top1", Plot)
        await until(pilot, lambda: plot.size.width and plot.chart and len(plot.chart.lines) > 6, "the curves")
        await pilot.pause()

    assert snap(size, ready)


@pytest.mark.parametrize("size", SIZES)
def test_difference(snap: Callable[..., bool], size: Size) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await three_marked(pilot)
        await pilot.press("space", "equals_sign")
        await until(pilot, lambda: isinstance(pilot.app.screen, DifferencePanel), "the panel")

    assert snap(size, ready)


@pytest.mark.parametrize("size", SIZES)
def test_delete_asks(snap: Callable[..., bool], size: Size) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await three_marked(pilot)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDelete), "the question")

    assert snap(size, ready)
