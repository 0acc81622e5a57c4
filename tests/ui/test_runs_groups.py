"""Runs of several seeds on the Runs screen: one row that opens, acted on as a whole, drawn as a mean with a band."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot

from presets import schema
from tests.ui.conftest import environment, until
from tests.ui.sample_run import NOW, SampleRun, preset
from tests.ui.test_runs import made, names, opened, painted, runs_screen, told
from tui.app import CifartuiApp
from tui.data.seed_group import SeedGroup
from tui.display import Display
from tui.screens.monitor import Monitor
from tui.screens.run_dialogs import ConfirmDelete, DifferencePanel
from tui.widgets.lists import RunList
from tui.widgets.plot import Plot
from tui.widgets.run_table import RunTable

SIZES = [(80, 24), (120, 40), (160, 45)]


def seeds(runs_dir: Path) -> None:
    """Make two groups of a preset, of three and two seeds, which differ in the learning rate, and a run alone."""
    for group, lr, count, age_s in (("aa", 0.01, 3, 5_000), ("bb", 0.1, 2, 9_000)):
        changed = preset("ResNet-18", optimizer=schema.Sgd(lr=lr, momentum=0.9))
        for seed in range(count):
            with SampleRun(
                runs_dir, f"networks-resnet18-{group}0{seed}", start=NOW - age_s + 700 * seed, seed=seed, group=group,
                preset_name="networks/resnet18", preset=changed, overrides=(f"optimizer.lr={lr}",),
            ) as run:  # fmt: skip
                run.better = 0.012 * seed - 4 * abs(lr - 0.01) * 0.1
                run.begin().prepare()
                for epoch in range(1, 13):
                    run.train_epoch(epoch)
                run.finish("completed", test_top1=0.25 + run.better)
    made(runs_dir, "basenet-11aa", 100_000, 15)


async def three_rows(pilot: Pilot[Any]) -> Any:
    screen = await opened(pilot, 6)
    await until(pilot, lambda: len(screen.query_one(RunTable).rows) == 3, "the rows")
    return screen


async def test_a_group_is_one_row_that_opens(runs_dir: Path) -> None:
    seeds(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await three_rows(pilot)
        first, second, alone = painted(screen)
        assert first.startswith("  ▸ …-resnet18 lr 0.01  completed   3 seeds  26.2 ±1.2  26.2 ±1.2 ")
        assert second.startswith("  ▸ …s-resnet18 lr 0.1  completed   2 seeds  ")
        assert "±" in first
        assert alone.split()[0] == "basenet-11aa"
        assert told(screen, "#top").startswith("Runs   6   by start")
        assert told(screen).startswith("3 runs, seeds 0, 1, 2; val ")
        assert told(screen).endswith("mean ± std, n 3. Enter opens; D deletes all.")
        await pilot.press("right")
        await until(pilot, lambda: len(painted(screen)) == 6, "the members")
        assert [line.split()[:2] for line in painted(screen)[1:4]] == [["seed", "0"], ["seed", "1"], ["seed", "2"]]
        await pilot.press("right", "j", "j")
        assert screen.query_one(RunTable).chosen is screen.query_one(RunTable).rows[2]
        await pilot.press("left")
        await until(pilot, lambda: len(painted(screen)) == 3, "the members put away")
        assert isinstance(screen.query_one(RunTable).chosen, SeedGroup)
        await pilot.press("enter")
        await until(pilot, lambda: len(painted(screen)) == 6, "the members again")
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
        assert isinstance(app.screen, Monitor)
        assert app.screen.run_folder.id.endswith("aa00")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "the runs again")
        await pilot.press("k", "enter")
        await until(pilot, lambda: len(painted(screen)) == 3, "the members put away by enter")
        await pilot.press("R")
        assert told(screen) == "This is a group of 3 runs: open it with enter, and choose one."


async def test_a_group_is_sorted_by_its_mean_and_found_by_its_members(runs_dir: Path) -> None:
    seeds(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await three_rows(pilot)
        await pilot.press("o")
        rows = screen.query_one(RunTable).rows
        values = [row.best_val_top1 for row in rows if not hasattr(row, "problem")]
        assert values == sorted(values, reverse=True)
        await pilot.press("slash", *"bb01", "enter")
        await until(pilot, lambda: len(screen.query_one(RunTable).rows) == 1, "the group of the run")
        assert told(screen, "#top").startswith("Runs   2 of 6")


async def test_deleting_a_group_deletes_its_runs(runs_dir: Path) -> None:
    seeds(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await three_rows(pilot)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDelete), "the question")
        await pilot.press("y")
        await until(pilot, lambda: "3 runs deleted" in told(screen), "the answer")
        await until(pilot, lambda: len(screen.query_one(RunTable).rows) == 2, "the row gone")
        await pilot.pause()
        assert "3 runs deleted" in told(screen)
    assert sorted(path.name[16:] for path in runs_dir.iterdir()) == [
        "basenet-11aa", "networks-resnet18-bb00", "networks-resnet18-bb01",
    ]  # fmt: skip


async def test_marked_groups_are_drawn_as_means_with_bands(runs_dir: Path) -> None:
    seeds(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(160, 45)) as pilot:
        screen = await three_rows(pilot)
        plot = screen.query_one("#over-top1", Plot)
        await pilot.press("space", "space", "space")
        await until(
            pilot, lambda: plot.chart and len({line.color for line in plot.chart.lines if line.marker}) > 2, "3"
        )
        assert plot.chart is not None
        assert len(plot.chart.bands) == 2
        assert len({line.color for line in plot.chart.lines if not line.marker}) == 3
        legend = told(screen, "#over-legend")
        assert "1 networks-resnet18 lr 0.01 " in legend
        assert "2 networks-resnet18 lr 0.1 " in legend
        assert "(n 3)" in legend
        assert "(n 2)" in legend
        await pilot.press("equals_sign")
        await until(pilot, lambda: isinstance(app.screen, DifferencePanel), "the panel")
        panel = app.screen
        assert isinstance(panel, DifferencePanel)
        assert len(panel._table().plain.splitlines()[0].split()) == 6


async def test_a_member_that_is_left_alone_is_a_run(runs_dir: Path) -> None:
    made(runs_dir, "demo-11aa", 500, 1, preset_name="demo", seed=0, group="aa")
    made(runs_dir, "demo-22bb", 900, 1, preset_name="demo", seed=1, group="aa", overrides=("train.epochs=9",))
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 2)
        await until(pilot, lambda: len(names(screen)) == 2, "the rows")
        assert painted(screen)[0].startswith("  demo-11aa seed 0")
        assert painted(screen)[1].startswith("  demo epochs 9 seed 1 ")
        assert runs_screen(app) is screen


async def test_the_runs_of_a_search_are_named_by_what_differs_between_them(runs_dir: Path) -> None:
    for number, lr in enumerate(("0.01", "0.02")):
        overrides = ("train.epochs=2", f"optimizer.lr={lr}")
        made(
            runs_dir, f"demo-{number}aaa", 500 + number, 1, preset_name="demo", group="lr-0123456789ab",
            overrides=overrides,
        )  # fmt: skip
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 2)
        await until(pilot, lambda: len(names(screen)) == 1, "one row")
        await pilot.press("enter")
        await until(pilot, lambda: len(names(screen)) == 3, "the short runs")
        rows = [row.strip() for row in painted(screen)]
        assert rows[0].startswith("▾ demo lr-find ")
        assert {row.split("  ")[0] for row in rows[1:3]} == {"lr 0.01", "lr 0.02"}


async def test_home_names_what_differs(runs_dir: Path) -> None:
    seeds(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        shown = app.screen.query_one(RunList)
        await until(pilot, lambda: shown.option_count == 6, "the runs")
        lines = [option.prompt.plain for option in shown.options if isinstance(option.prompt, Text)]
        assert "resnet18 lr 0.01 seed 2 " in lines[0]
        assert "resnet18 lr 0.1 seed 0 " in lines[4]
        assert "basenet-11aa " in lines[5]


async def test_home_lists_a_search_once(runs_dir: Path) -> None:
    for number in range(4):
        group = "lr-0123456789ab" if number else ""
        made(
            runs_dir, f"demo-{number}aaa", 500 + 100 * number, 1, preset_name="demo", group=group,
            overrides=(f"optimizer.lr=0.0{number + 1}",),
        )  # fmt: skip
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        shown = app.screen.query_one(RunList)
        await until(pilot, lambda: shown.option_count == 2, "a run, and one of the search")
        lines = [option.prompt.plain for option in shown.options if isinstance(option.prompt, Text)]
        assert "demo-0aaa lr 0.01 " in lines[0]
        assert "demo-1aaa lr-find lr 0.02 " in lines[1]


def has_curve(plot: Plot) -> bool:
    """Return whether dots of a curve, of Braille, are painted at the plot's present size."""
    painted_rows = "".join(plot.render_line(y).text for y in range(plot.size.height))
    return bool(plot.chart and plot.chart.bands) and any("\u2800" < mark <= "\u28ff" for mark in painted_rows)


@pytest.mark.parametrize("size", SIZES)
def test_picture(
    snap_compare: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: Display, size: Any
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        screen = await three_rows(pilot)
        await pilot.press("space", "space", "k", "enter")
        if not screen.shows_overlay:
            await pilot.press("v")
        plots = screen.query(Plot)
        await until(pilot, lambda: all(has_curve(plot) for plot in plots), "the curves")
        await pilot.pause()
        await until(pilot, lambda: all(has_curve(plot) for plot in plots), "the curves beside their legend")

    monkeypatch.chdir(tmp_path)
    seeds(Path("runs"))
    app = CifartuiApp(Path("runs"), environment=environment(), display=display)
    assert snap_compare(app, terminal_size=size, run_before=ready)
