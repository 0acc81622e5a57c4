"""The ablation's table: it explains itself empty, fills as runs go on, opens runs and starts steps."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot

from presets.catalog import list_presets, load
from tests.ui.conftest import environment, until
from tests.ui.sample_run import NOW, SampleRun, preset
from tui.app import CifartuiApp
from tui.data.environment import Environment
from tui.screens.ablation import AblationScreen
from tui.screens.monitor import Monitor
from tui.screens.start_dialog import StartPanel
from tui.widgets.basic import ChangedStatic
from tui.widgets.lists import Pickable


def with_shipped_presets() -> Environment:
    return dataclasses.replace(environment(), presets=list_presets, loader=lambda: load)


def step_run(runs_dir: Path, number: int) -> SampleRun:
    """Return a run of a step that began five seconds ago."""
    name = f"ablation/step-{number:02}"
    plan = preset(f"Step {number}", 15, group="ablation")
    return (
        SampleRun(runs_dir, f"ablation-step-{number:02}-a{number:03}", start=NOW - 5, preset_name=name, preset=plan)
        .begin()
        .prepare()
    )


def lines(app: CifartuiApp) -> list[str]:
    shown = app.screen.query_one("#steps", Pickable)
    return [option.prompt.plain for option in shown.options if isinstance(option.prompt, Text)]


async def opened(pilot: Pilot[Any]) -> AblationScreen:
    await pilot.press("t")
    await until(pilot, lambda: isinstance(pilot.app.screen, AblationScreen), "the table")
    await until(pilot, lambda: pilot.app.screen.query_one("#steps", Pickable).option_count > 15, "its rows")
    screen = pilot.app.screen
    assert isinstance(screen, AblationScreen)
    return screen


async def test_empty_it_says_what_to_do_and_enter_offers_to_start(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=with_shipped_presets())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert "Enter starts the highlighted step" in screen.query_one("#footnote", ChangedStatic).text.plain
        assert all("not run" in line for line in lines(app))
        assert any("58→62" in line and "images resized to 64 px" in line for line in lines(app))
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, StartPanel), "the question")
        panel = app.screen
        assert isinstance(panel, StartPanel)
        assert panel.names == ("ablation/step-01",)


@pytest.mark.parametrize(
    ("size", "said"),
    [((80, 24), "22.0 ±0.6   +0.6   2 seeds"), ((120, 40), "22.0 ±0.6   +0.6   24.1 ±0.0  2 seeds")],
)
async def test_a_group_of_seeds_is_its_mean_and_deviation(runs_dir: Path, size: tuple[int, int], said: str) -> None:
    with step_run(runs_dir, 0).train_epoch(1).train_epoch(2).finish():
        pass
    for seed in (0, 1):
        plan = preset("Step 1", 15, group="ablation")
        with SampleRun(
            runs_dir, f"ablation-step-01-b00{seed}", start=NOW - 50, preset_name="ablation/step-01", preset=plan,
            seed=seed, group="aa",
        ) as run:  # fmt: skip
            run.better = 0.002 + 0.008 * seed
            run.begin().prepare().train_epoch(1).train_epoch(2).finish()
    app = CifartuiApp(runs_dir, environment=with_shipped_presets())
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: "±" in lines(app)[1], "the group")
        assert lines(app)[1].rstrip().endswith(said)
        assert "21.4" in lines(app)[0]
        assert "±: sample deviation over seeds" in screen.query_one("#footnote", ChangedStatic).text.plain
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, Monitor), "the newest of its runs")
        assert isinstance(app.screen, Monitor)
        assert app.screen.run_folder.id.endswith("b001")


async def test_it_fills_as_runs_go_on(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=with_shipped_presets())
    with step_run(runs_dir, 0).train_epoch(1).finish(), step_run(runs_dir, 1).live() as running:
        async with app.run_test(size=(120, 40)) as pilot:
            screen = await opened(pilot)
            await until(pilot, lambda: "completed" in lines(app)[0], "the first step")
            assert "training" in lines(app)[1]
            running.train_epoch(1, seconds=2)
            screen.list_again()
            await until(pilot, lambda: "1/15" in lines(app)[1], "the second step's progress")
            assert "+0.0" in lines(app)[1]
            assert "2 of 18 steps" in screen.query_one("#top", ChangedStatic).text.plain
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Monitor), "the run")
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, AblationScreen), "the table again")


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 45)])
async def test_rows_fit_the_screen(runs_dir: Path, size: tuple[int, int]) -> None:
    app = CifartuiApp(runs_dir, environment=with_shipped_presets())
    with step_run(runs_dir, 0).live() as run:
        run.epoch_flops = 9.876e14
        run.train_epoch(1)
        async with app.run_test(size=size) as pilot:
            screen = await opened(pilot)
            await until(pilot, lambda: "1/15" in lines(app)[0], "the run")
            head = screen.query_one("#columns", ChangedStatic).text.plain
            is_wide = "test" in head
            assert ("spent" in head) == ("0.988 PFLOP" in lines(app)[0]) == is_wide
            if is_wide:
                end = head.index("spent") + len("spent")
                assert lines(app)[0][:end].endswith(" 0.988 PFLOP")
            assert max(map(len, lines(app))) <= size[0] - 2


async def test_escape_goes_home(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=with_shipped_presets())
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, AblationScreen), "Home")
