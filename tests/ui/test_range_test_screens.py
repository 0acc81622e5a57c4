"""A range test on the Monitor and elsewhere in the dashboard: its curve, its suggestion, and what it does not offer."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.journal import events as ev
from presets import schema
from presets.range_test import DEFAULT_SWEEP, Sweep, range_test, rate_at, table_of
from tests.ui.conftest import environment, until
from tests.ui.sample_run import SampleRun, preset
from tests.ui.test_home import said as text_of
from tui.app import CifartuiApp
from tui.display import Display
from tui.plots.chart import Chart
from tui.screens.monitor import Monitor
from tui.screens.start_dialog import StartPanel
from tui.widgets.monitor_panes import CommandStrip, OutcomeNotice, RunHeader
from tui.widgets.plot import Plot

STEPS = 300
TEST = range_test(preset(), 1e-5, 10.0, STEPS)


def loss_at(lr: float) -> float:
    """A loss that falls by 1.5, fastest at 0.01, and rises from 0.3 on."""
    risen = (6 * math.log10(lr / 0.3)) ** 2 if lr > 0.3 else 0.0
    return 4.6 - 1.5 / (1 + math.exp(-4 * math.log10(lr / 0.01))) + risen + 0.05 * math.sin(1e4 * lr)


def under_way(runs_dir: Path, until_step: int) -> SampleRun:
    """A live range test that has come so far."""
    run = SampleRun(runs_dir, "lr-find-basenet-c0de", preset=TEST, preset_name="lr-find basenet").live().begin()
    run.prepare(steps_per_epoch=STEPS)
    table = table_of(TEST)
    assert isinstance(table, schema.RangeTest)
    for step in range(2, until_step + 1, 2):
        lr = rate_at(table, 10.0, step - 1.5)
        run.global_step = step
        run.write(
            ev.StepsTrained(
                epoch=1, step=step, global_step=step, num_steps=2, num_images=64, loss=loss_at(lr), top1=0.01, lr=lr,
                images_per_s=1280.0,
            ),
            0.1,
        )  # fmt: skip
    return run


def ended(runs_dir: Path) -> SampleRun:
    """One whose loss rose until it ended by itself."""
    run = under_way(runs_dir, until_step=260)
    said = ev.RunFinished(outcome="completed", reason="the loss had risen to 18.4 at lr 1.6", epoch=1, global_step=260)
    run.write(said, 1)
    run.die()
    return run


def on(run: SampleRun, display: Display = Display()) -> CifartuiApp:  # noqa: B008 (frozen)
    return CifartuiApp(run.folder.path.parent, attach=run.folder, environment=environment(), display=display)


def shown(app: CifartuiApp, kind: type) -> str:
    return str(app.screen.query_one(kind).text.plain)


def chart_of(app: CifartuiApp) -> Chart:
    chart = app.screen.query_one("#loss", Plot).chart
    assert chart is not None
    return chart


async def drawn(pilot: Pilot[Any]) -> None:
    screen = pilot.app.screen
    assert isinstance(screen, Monitor)
    await until(pilot, lambda: screen.query_one("#loss", Plot).chart, "the plot")
    screen.paint_plots()
    await pilot.pause()


SIZES = [(80, 24), (160, 45)]


@pytest.mark.parametrize("size", SIZES)
def test_a_range_test_that_is_over(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    with ended(runs_dir) as run:
        assert snap_compare(on(run, display), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", SIZES)
async def test_the_curve_and_the_suggestion_are_there(runs_dir: Path, size: tuple[int, int]) -> None:
    with ended(runs_dir) as run:
        app = on(run)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "suggested lr" in shown(app, RunHeader), "the run")
            await drawn(pilot)
            plot = app.screen.query_one("#loss", Plot)
            assert plot.size.width > size[0] - 8
            assert not app.screen.query_one("#accuracy", Plot).display
            chart = plot.chart
            assert chart is not None
            (mark,) = chart.marks
            assert mark.label == "▾ 0.01"
            assert chart.boundaries == (mark.x,)
            rows = "\n".join("".join(cell for cell, _ in row) for row in plot._cells)
            assert all(label in rows for label in ("1e-5 ", " 0.001 ", " 0.1 ", "10 lr"))
            assert mark.label in rows
            told = " ".join(shown(app, OutcomeNotice).split())
    assert "Completed: the loss had risen to 18.4 at lr 1.6." in told
    assert "Suggested learning rate: 0.01" in told
    assert "and stopped falling" in told


async def test_a_live_test_suggests_nothing_before_the_loss_has_risen(runs_dir: Path) -> None:
    with under_way(runs_dir, until_step=150) as run:
        app = on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "not before the loss has risen" in shown(app, RunHeader), "the header")
            await drawn(pilot)
            chart = chart_of(app)
            assert chart.marks == ()
            assert len(chart.lines[1].xs) == 75


async def test_keys_that_want_weights_are_not_offered_and_resume_says_why(runs_dir: Path) -> None:
    with ended(runs_dir) as run:
        app = on(run)
        async with app.run_test(size=(160, 45)) as pilot:
            await until(pilot, lambda: "suggested lr" in shown(app, RunHeader), "the run")
            assert isinstance(app.screen, Monitor)
            assert {"checkpoint", "validate", "resume", "resume_changed", "images"} <= app.screen.idle_actions
            for key in ("r", "R"):
                await pilot.press(key)
                assert "resume: a range test keeps no weights" in shown(app, CommandStrip)
            await pilot.press("i")
            assert "images: a range test keeps no weights" in shown(app, CommandStrip)
            await pilot.press("m")
            assert "that of a range test stays as it is" in shown(app, CommandStrip)
            await pilot.press("x")
            assert "of a range test it is the learning rate" in shown(app, CommandStrip)
            assert "resume" not in shown(app, OutcomeNotice)


async def test_zoom_knows_one_curve_and_reads_the_rate_off_it(runs_dir: Path) -> None:
    with ended(runs_dir) as run:
        app = on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "suggested lr" in shown(app, RunHeader), "the run")
            await drawn(pilot)
            await pilot.press("z")
            await pilot.press("left")
            screen = app.screen
            assert isinstance(screen, Monitor)
            chart = chart_of(app)
            assert chart.legend[0][0].startswith("│ lr ")
            await pilot.press("y")
            assert chart_of(app).y.is_log
            await pilot.press("z")
            assert screen.zoomed == "memory"
            await pilot.press("z")
            assert screen.zoomed == "all"


async def test_an_exploded_loss_is_drawn_to_the_edge(runs_dir: Path) -> None:
    with under_way(runs_dir, until_step=200) as run:
        blown = ev.StepsTrained(epoch=1, step=202, global_step=202, num_steps=2, num_images=64, loss=1e29, top1=0.0,
                                lr=0.1, images_per_s=1280.0)  # fmt: skip
        run.write(blown, 0.1)
        app = on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "suggested lr" in shown(app, RunHeader), "the run")
            await drawn(pilot)
            chart = chart_of(app)
            assert chart.y.upper < 10
            assert max(chart.lines[0].ys) == chart.y.upper


async def test_f_on_home_asks_and_starts_the_test_of_the_highlighted_preset(runs_dir: Path) -> None:
    asked = []
    with ended(runs_dir) as run:

        def find_lr(folder: Path, name: str, order: object, sweep: Sweep) -> object:
            asked.append((name, sweep))
            return run.folder

        app = CifartuiApp(runs_dir, environment=environment(find_lr=find_lr))
        async with app.run_test(size=(100, 30)) as pilot:
            await pilot.press("j", "f")
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the dialog")
            assert asked == []
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
    assert asked == [("basenet", DEFAULT_SWEEP)]


@pytest.mark.parametrize("own", [Sweep(first_lr=1e-4, last_lr=2.0, steps=STEPS), Sweep(steps=STEPS)])
async def test_a_test_that_is_started_anew_keeps_its_rates_and_its_batches(runs_dir: Path, own: Sweep) -> None:
    asked: list[Any] = []
    test = range_test(preset(), *own.rates(preset().optimizer), own.steps)
    with SampleRun(runs_dir, preset=test, preset_name="lr-find basenet").live().begin() as run:
        run.finish("failed", "no data")

        def find_lr(folder: Path, name: str, order: object, sweep: Sweep) -> object:
            asked.append((name, sweep))
            return run.folder

        ways = environment(find_lr=find_lr)
        app = CifartuiApp(runs_dir, attach=run.folder, environment=ways)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: getattr(app.screen, "info", None), "the run")
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the dialog")
            first, last = own.rates(preset().optimizer)
            said = f"{STEPS:,} batches while the learning rate rises from {first:g} to {last:g}"
            await until(pilot, lambda: said in text_of(app, "#plan"), "the plan")
            await pilot.press("enter")
            await until(pilot, lambda: asked, "the start")
    assert asked == [("basenet", own)]
