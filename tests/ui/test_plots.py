"""The Monitor's plots: what is painted again, what is left out, and how long histories stay quick."""

from functools import partial
from pathlib import Path

import pytest

from engine.journal import events as ev
from engine.journal import jsonl
from tests.ui.conftest import until
from tests.ui.sample_run import NOW, SampleRun, preset, training
from tests.ui.test_monitor import app_on, monitor
from tui.app import CifartuiApp
from tui.widgets.log_pane import LogPane
from tui.widgets.plot import Plot


async def test_zoom_goes_round(runs_dir: Path) -> None:
    with training(runs_dir, gpu=True, epochs_done=1) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plots")

            names = ("loss", "accuracy", "lr", "norm", "memory")

            def shows(expected: set[str]) -> bool:
                plots = [app.screen.query_one(f"#{name}") for name in names]
                return {name for name, plot in zip(names, plots, strict=True) if plot.size.width > 0} == expected

            for expected in (*({name} for name in names), {"loss", "accuracy"}):
                await pilot.press("z")
                await until(pilot, partial(shows, expected), f"zoom {expected}")


async def test_columns_of_an_older_window_narrow_neither_plots_nor_log(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("LINES", "12")
    with training(runs_dir, epochs_done=1) as run:
        run.write(ev.Alerted(severity="notice", kind="data", text="word " * 30))
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plots")
            plot, log = app.screen.query_one("#loss", Plot), app.screen.query_one(LogPane)
            await pilot.press("z")
            await until(pilot, lambda: plot.size.width > 100 and plot.size.height > 20, "the plot")
            axis = plot.render_line(plot.size.height - 2).text.rstrip()
            assert axis.count("─") > 100
            assert axis.endswith("┬")
            await pilot.press("z", "z", "z", "z", "z", "L")
            await until(pilot, lambda: log.size.width > 100, "the log")
            assert max(len(line.text.rstrip()) for line in log.lines) > 100


async def test_only_changed_rows_of_a_plot_are_painted_and_limits_keep_still(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CifartuiApp, "plots_every_s", 3600.0)  # nothing but this test paints the new step
    with training(runs_dir, epochs_done=4) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            plot = app.screen.query_one("#loss", Plot)
            await until(pilot, lambda: plot.chart, "the plot")
            before = plot.chart
            assert before is not None
            assert plot.show(before) == []
            num_steps = len(monitor(app).state.steps)
            run.write(
                ev.StepsTrained(
                    epoch=5, step=900, global_step=6528, num_steps=1, num_images=32, loss=3.1, top1=0.2, lr=0.005,
                    images_per_s=1000.0,
                )
            )  # fmt: skip
            await until(pilot, lambda: len(monitor(app).state.steps) > num_steps, "the new step")
            changed = monitor(app).paint_plots()["loss"]
            assert 0 < len(changed) < plot.size.height // 2
            assert plot.chart is not None
            assert (plot.chart.x, plot.chart.y) == (before.x, before.y)


async def test_non_finite_losses_do_not_stop_the_plots(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        for loss in (float("nan"), float("inf"), -float("inf")):
            run.write(
                ev.StepsTrained(
                    epoch=2, step=800, global_step=2207, num_steps=1, num_images=32, loss=loss, top1=0.1, lr=0.1,
                    images_per_s=1000.0,
                )
            )  # fmt: skip
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")


async def test_a_long_history_is_drawn_quickly(runs_dir: Path) -> None:
    with SampleRun(runs_dir, preset=preset(epochs=400)).live().begin().prepare() as run:
        one = jsonl.event_reader(run.folder.events).read()[-1]
        assert isinstance(one, ev.StageStarted)
        lines = [
            b'{"type":"StepsTrained","epoch":%d,"step":%d,"global_step":%d,"num_steps":1,"num_images":32,"loss":%.3f,'
            b'"top1":0.2,"lr":0.1,"images_per_s":900.0,"time":%.1f}\n'
            % (n // 300 + 1, n % 300, n, 4 - n / 1e5, NOW - 60 + n / 1e4)
            for n in range(100_000)
        ]
        with run.folder.events.open("ab") as file:
            file.writelines(lines)
        app = app_on(run)
        async with app.run_test(size=(160, 45)) as pilot:
            await until(pilot, lambda: len(monitor(app).state.steps) == 100_000, "the history")
            plot = app.screen.query_one("#loss", Plot)
            await until(pilot, lambda: plot.chart, "the plot")
            assert plot.chart is not None
            assert max(len(line.xs) for line in plot.chart.lines) <= 2 * plot.resolution.num_columns
