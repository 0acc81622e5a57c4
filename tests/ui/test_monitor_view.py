"""How the Monitor's curves are looked at: smoothing, scale, axes, reading values, marks, warnings, the log."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.widgets import Input

from engine.journal import events as ev
from engine.journal import jsonl
from engine.journal.commands import AnyCommand, ScaleLearningRate, Validate
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.shared.data_path import NamedData
from presets import catalog
from tests.ui.conftest import environment, until
from tests.ui.sample_run import SampleRun, staged, training
from tests.ui.test_monitor import app_on, header, monitor, strip
from tui.app import CifartuiApp
from tui.plots.chart import Chart
from tui.screens.dialogs import ResumePanel
from tui.screens.start_dialog import StartPanel
from tui.widgets.basic import ChangedStatic
from tui.widgets.key_bar import KeyBar
from tui.widgets.log_pane import LogPane
from tui.widgets.monitor_panes import Alerts, OutcomeNotice
from tui.widgets.plot import Plot


def chart(app: CifartuiApp, name: str = "loss") -> Chart:
    shown = app.screen.query_one(f"#{name}", Plot).chart
    assert shown is not None
    return shown


def head(app: CifartuiApp, name: str = "loss") -> str:
    return app.screen.query_one(f"#{name}", Plot).render_line(0).text


def commands(run: SampleRun) -> list[AnyCommand]:
    return jsonl.command_reader(run.folder.commands).read()


async def test_smoothing_goes_round_and_says_so(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            lines = []
            for said in ("smoothing 0.9", "no smoothing", "smoothing 0.6"):
                await pilot.press("m")
                assert said in strip(app)
                lines.append(chart(app).lines[0].ys)
            wavers = [sum(abs(b - a) for a, b in pairwise(ys)) for ys in lines]
            assert wavers[0] < wavers[2] < wavers[1]
            band = chart(app).bands[0].columns
            assert sum(column is not None for column in band) == len(lines[0])


async def test_the_loss_can_be_seen_on_a_logarithmic_axis_and_accuracy_stays(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            await pilot.press("y")
            assert chart(app).y.is_log
            assert not chart(app, "accuracy").y.is_log
            assert {"2", "5"} <= set(chart(app).y.labels())
            await pilot.press("y")
            assert not chart(app).y.is_log


async def test_a_loss_of_zero_does_not_stop_the_logarithmic_axis(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        run.write(
            ev.StepsTrained(
                epoch=2, step=800, global_step=2207, num_steps=1, num_images=32, loss=0.0, top1=1.0, lr=0.1,
                images_per_s=1000.0,
            )
        )  # fmt: skip
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            await pilot.press("y")
            assert chart(app).y.is_log


async def test_the_x_axis_counts_epochs_steps_or_minutes(runs_dir: Path) -> None:
    with staged(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            assert chart(app).x_unit == "epochs"
            assert chart(app).boundaries == (3.0,)
            await pilot.press("x")
            assert "x axis: steps" in strip(app)
            assert chart(app).x.upper >= 5.5 * 1407
            assert chart(app).boundaries == (3 * 1407,)
            await pilot.press("x")
            assert "minutes" in strip(app)
            assert 3.6 < max(chart(app).lines[0].xs) < 4.0  # 5.5 epochs of 40 s, and 4 s before them


async def test_learning_rate_and_gradient_norm_are_read_off_their_own_plots(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            await pilot.press("z", "z", "z")
            assert monitor(app).zoomed == "lr"
            await until(pilot, lambda: "learning rate" in head(app, "lr"), "the learning rate")
            assert "━ 0.005" in head(app, "lr")
            await pilot.press("z")
            await until(pilot, lambda: "gradient norm" in head(app, "norm"), "the norm")
            assert re.search(r"━ 1\.[12]", head(app, "norm"))
            await pilot.press("left")
            assert re.search(r"│ 8\.[45].* ━ 1\.[12]", head(app, "norm"))
            await pilot.press("y")
            assert "loss and gradient norm on a logarithmic axis" in strip(app)
            assert app.screen.query_one("#norm", Plot).chart.y.is_log


async def test_values_are_read_off_a_zoomed_plot(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            await pilot.press("left")
            assert chart(app).cursor is None  # only where there is room to say what is read
            await pilot.press("z")
            await until(pilot, lambda: app.screen.query_one("#accuracy", Plot).size.width == 0, "the zoom")
            await pilot.press("left")
            first = chart(app).cursor
            assert first is not None
            assert 8.4 < first <= 8.5
            assert "train 2." in head(app)
            assert "val 2.98 (epoch 8)" in head(app)
            await pilot.press("shift+left", "shift+left", "shift+left")
            cursor = chart(app).cursor
            assert cursor is not None
            assert cursor < first - 2
            assert f"{cursor:.2f}" in head(app)
            await pilot.press("escape")
            assert chart(app).cursor is None
            assert monitor(app).zoomed == "loss"


async def test_v_and_the_brackets_ask_the_worker(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            await pilot.press("v")
            assert "validate: asked" in strip(app)
            await pilot.press("left_square_bracket", "right_square_bracket")
            assert "lr ×2: asked" in strip(app)
            await until(pilot, lambda: len(commands(run)) == 3, "the commands")
    asked = commands(run)
    assert isinstance(asked[0], Validate)
    assert [each.factor for each in asked if isinstance(each, ScaleLearningRate)] == [0.5, 2.0]


async def test_what_was_steered_is_marked_where_it_took_effect(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        run.write(
            ev.CommandApplied(
                command_id="a", command="ScaleLearningRate", accepted=True, effect="lr 0.005 → 0.0025", epoch=5,
                global_step=4 * 1407,
            )
        )  # fmt: skip
        run.write(ev.Validated(epoch=5, step=1, global_step=4 * 1407 + 1, loss=3.1, top1=0.2, seconds=1.0))
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            [mark] = chart(app).marks
            assert (mark.x, mark.label) == (4.0, "▾")
            assert any(line.marker == "○" for line in chart(app).lines)
            await pilot.press("z")
            await until(pilot, lambda: chart(app).marks[0].label == "▾lr 0.005 → 0.0025", "the mark in words")


async def test_a_warning_has_a_row_with_what_can_be_done(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            alerts = app.screen.query_one(Alerts)
            assert not alerts.display
            run.write(ev.Alerted(severity="warning", kind="spike", text="The loss jumped.", advice="Press [."))
            await until(pilot, lambda: alerts.display, "the warning")
            assert "The loss jumped. Press [." in alerts.text.plain
            assert any("The loss jumped." in sentence for sentence in app.screen.query_one(LogPane).sentences)


async def test_what_was_spent_stands_behind_the_progress_once_an_epoch_is_over(runs_dir: Path) -> None:
    with SampleRun(runs_dir).live().begin().prepare() as run:
        run.epoch_flops = 3.7e15
        run.train_epoch(1, until=0.5)
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "images/s" in header(app), "the run")
            assert "FLOP" not in header(app)
            run.train_epoch(1)
            await until(pilot, lambda: "batch 1,407/1,407    7 %  3.7 PFLOP" in header(app), "what the epoch has cost")
            assert max(map(len, header(app).splitlines())) <= 80


async def test_the_log_can_have_the_screen_to_itself(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plot")
            log = app.screen.query_one(LogPane)
            before = log.size.height
            await pilot.press("L")
            await until(pilot, lambda: log.size.height > before + 5, "the log")
            await pilot.press("escape")
            await until(pilot, lambda: log.size.height == before, "everything")


async def test_the_row_of_keys_always_ends_with_help_and_leaving(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(60, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            bar = app.screen.query_one(KeyBar)
            await until(pilot, lambda: "stop" in bar.text.plain, "the keys")
            assert bar.text.plain.rstrip().endswith("? help  q leave")
            assert bar.text.cell_len <= bar.content_size.width + 2
            await pilot.click(KeyBar, offset=(2, 0))
            assert "stop after this batch: asked" in strip(app)


async def test_a_completed_run_is_offered_more_epochs(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("engine.runs.resume.resume_run", lambda run, changes, notify: asked.append((run.id, changes)))
    with training(runs_dir, epochs_done=15) as run:
        run.finish("completed", "all 15 epochs are trained")
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "completed" in header(app), "the run")
            told = app.screen.query_one(OutcomeNotice).text.plain
            assert "Press i for its images and scores; cifartui report basenet-a3f2 for a page" in told
            await pilot.press("r")
            await until(pilot, lambda: isinstance(app.screen, ResumePanel), "the panel")
            panel = app.screen
            assert isinstance(panel, ResumePanel)
            assert "to 20 epochs in all" in panel.query_one("#verdict", ChangedStatic).text.plain
            panel.query_one(Input).value = "train.epochs=+5 data.image_size=64"
            await until(pilot, lambda: panel.problem, "the refusal")
            assert "data.image_size cannot change" in panel.problem
            await pilot.press("enter")
            assert isinstance(app.screen, ResumePanel)
            panel.query_one(Input).value = ""
            await until(pilot, lambda: "Every epoch is trained" in panel.problem, "why not")
            panel.query_one(Input).value = "train.epochs=+5 optimizer.lr=0.001"
            await until(pilot, lambda: not panel.problem, "that it is valid")
            await pilot.press("enter")
            await until(pilot, lambda: asked, "the resume")
    assert asked == [(run.folder.id, ["train.epochs=+5", "optimizer.lr=0.001"])]


async def test_a_run_whose_loss_was_no_number_is_offered_half_the_rate(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("engine.runs.resume.resume_run", lambda run, changes, notify: asked.append(changes))
    with training(runs_dir, epochs_done=1) as run:
        change = "optimizer.lr=0.0025"
        run.write(ev.Alerted(severity="error", kind="non-finite-loss", text="No number.", changes=(change,)))
        run.save().finish("failed", "The training loss is no longer a number")
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "failed" in header(app), "the run")
            assert f"Press r to resume with {change}." in app.screen.query_one(OutcomeNotice).text.plain
            await pilot.press("r")
            await until(pilot, lambda: isinstance(app.screen, ResumePanel), "the panel")
            assert app.screen.query_one(Input).value == change
            await pilot.press("enter")
            await until(pilot, lambda: asked, "the resume")
    assert asked == [[change]]


async def test_a_run_whose_data_has_changed_is_asked_about_it(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("engine.runs.resume.resume_run", lambda run, changes, notify: asked.append(changes))
    with training(runs_dir, epochs_done=1) as run:
        run.save()
        accept, why = "--accept-changed-data", "The data in /x has changed: 70 training images, not 60."
        run.write(ev.Alerted(severity="error", kind="changed-data", text=why, changes=(accept,)))
        run.finish("failed", why)
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "failed" in header(app), "the run")
            notice = app.screen.query_one(OutcomeNotice).text.plain
            assert "70 training images, not 60" in notice
            assert f"Press r to resume with {accept}." in notice
            await pilot.press("r")
            await until(pilot, lambda: isinstance(app.screen, ResumePanel), "the panel")
            panel = app.screen
            assert isinstance(panel, ResumePanel)
            assert "Goes on with the data as it is now" in panel.query_one("#verdict", ChangedStatic).text.plain
            panel.query_one(Input).value = f"{accept} --data=/moved optimizer.lr=0.001"
            await until(pilot, lambda: "Valid" in panel.query_one("#verdict", ChangedStatic).text.plain, "the check")
            await pilot.press("enter")
            await until(pilot, lambda: asked, "the resume")
    assert asked == [[accept, "--data=/moved", "optimizer.lr=0.001"]]


async def test_what_a_resume_changed_is_shown(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            info = run.folder.read_info()
            run.folder.write_amended(replace(info, preset=replace(info.preset, title="Amended")))
            run.begin(changes=("optimizer.lr=0.1",))
            await until(pilot, lambda: "Amended" in header(app), "the new title")


async def test_where_the_time_of_a_step_goes(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        timing = ev.StepTiming(data_s=0.001, compute_s=0.0085, report_s=0.0005)
        run.write(
            ev.StepsTrained(
                epoch=2, step=800, global_step=2207, num_steps=1, num_images=32, loss=3.0, top1=0.2, lr=0.1,
                images_per_s=1000.0, timing=timing,
            )
        )  # fmt: skip
        app = app_on(run)
        async with app.run_test(size=(160, 45)) as pilot:
            await until(pilot, lambda: "step 10.0 ms: data 10 %, network 85 %, rest 5 %" in header(app), "the split")


async def test_a_key_that_comes_to_nothing_says_why(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            for key, why in (("n", "one stage"), ("i", "no best weights yet"), ("r", "its worker already")):
                await pilot.press(key)
                assert why in strip(app)
            assert commands(run) == []
            bar = app.screen.query_one(KeyBar)
            await until(pilot, lambda: "stop" in bar.text.plain, "the keys")
            assert "next" not in bar.text.plain
            assert "resume" not in bar.text.plain


async def test_a_run_without_a_checkpoint_is_started_anew_and_not_resumed(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("engine.runs.resume.resume_run", lambda *_args: pytest.fail("resumed without a checkpoint"))
    folder = 'data.path="/photos"'
    weights = "model.weights=/gone.pt"
    info = {"overrides": ("data.dataset=class-folders", folder, weights), "seed": 4, "device": "cpu", "data_dir": "/d"}
    with SampleRun(runs_dir, preset_name="photos/frozen", **info).live().begin() as run:  # type: ignore[arg-type]
        run.finish("failed", "There are no weights called /gone.pt")

        def start(where: Path, name: str, options: RunOptions) -> RunDir:
            asked.append((where, name, options))
            return run.folder

        ways = environment(
            loader=lambda: catalog.load, start=start, data_at=lambda path, *_: NamedData("class-folders", path)
        )
        app = CifartuiApp(runs_dir, attach=run.folder, environment=ways)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "failed" in header(app), "the run")
            assert "Press a to start it anew" in app.screen.query_one(OutcomeNotice).text.plain
            bar = app.screen.query_one(KeyBar)
            await until(pilot, lambda: "a start again" in bar.text.plain, "the keys")
            assert "resume" not in bar.text.plain
            for key in ("r", "R"):
                await pilot.press(key)
                assert "no checkpoint to go on from; a starts it anew" in strip(app)
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the dialog")
            panel = app.screen
            assert isinstance(panel, StartPanel)
            filled = [panel.query_one(f"#{name}", Input).value for name in ("data", "seed", "device", "changes")]
            assert filled == ["/photos", "4", "cpu", weights]
            row = panel.query_one("#changes-error", ChangedStatic)
            await until(pilot, lambda: "The weights /gone.pt do not exist" in row.text.plain, "what was wrong")
            panel.query_one("#changes", Input).value = ""
            await pilot.press("enter")
            await until(pilot, lambda: asked, "the start")
    overrides = ("data.dataset=class-folders", folder)
    assert asked == [(runs_dir, "photos/frozen", RunOptions(overrides=overrides, seed=4, device="cpu", data_dir="/d"))]


async def test_a_run_of_a_preset_file_is_started_anew_from_that_file(runs_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "birds.toml"
    file.write_text('extends = "demo"\ntitle = "Birds"\n')
    asked: list[Any] = []
    with SampleRun(runs_dir, preset_name="birds", preset_file=str(file)).live().begin() as run:
        run.finish("failed", "no memory")

        def start(where: Path, name: str, options: RunOptions) -> RunDir:
            asked.append(name)
            return run.folder

        ways = environment(loader=lambda: catalog.load, start=start)
        app = CifartuiApp(runs_dir, attach=run.folder, environment=ways)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "failed" in header(app), "the run")
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the dialog")
            assert not app.screen.query("#broken")
            await pilot.press("enter")
            await until(pilot, lambda: asked, "the start")
    assert asked == [str(file)]


async def test_a_run_is_started_anew_with_several_seeds_through_the_queue(runs_dir: Path) -> None:
    queued: list[Any] = []
    with SampleRun(runs_dir).live().begin() as run:
        run.finish("failed", "no memory")
        ways = environment(loader=lambda: catalog.load, enqueue=lambda *arguments: queued.append(arguments))
        app = CifartuiApp(runs_dir, attach=run.folder, environment=ways)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "failed" in header(app), "the run")
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the dialog")
            app.screen.query_one("#seeds", Input).value = "2"
            await pilot.press("enter")
            await until(pilot, lambda: queued, "the queue")
            await until(pilot, lambda: any("Queued 2 runs" in each.message for each in app._notifications), "the words")
    ((_, names, options),) = queued
    assert (names, options.seeds) == (["basenet"], (0, 1))
