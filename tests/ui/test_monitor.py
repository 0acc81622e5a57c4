"""The Monitor, driven by keys and by what a pretended worker writes."""

from pathlib import Path

import pytest
from rich.cells import cell_len

from engine.journal import events as ev
from engine.journal import jsonl
from engine.journal.commands import Continue, NextStage, Pause, Stop
from engine.runs.run_dir import Status
from tests.ui.conftest import environment, until
from tests.ui.sample_run import NOW, SampleRun, preset, staged, training
from tui.app import CifartuiApp
from tui.data.run_list import RunsListed
from tui.screens.dialogs import ConfirmAbort
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.screens.run_keys import next_ways
from tui.widgets.basic import ChangedStatic
from tui.widgets.log_pane import LogPane
from tui.widgets.monitor_panes import CommandStrip, OutcomeNotice, Preparation, RunHeader
from tui.widgets.plot import Plot


def app_on(run: SampleRun) -> CifartuiApp:
    return CifartuiApp(run.folder.path.parent, attach=run.folder, environment=environment())


def monitor(app: CifartuiApp) -> Monitor:
    assert isinstance(app.screen, Monitor)
    return app.screen


def header(app: CifartuiApp) -> str:
    return app.screen.query_one(RunHeader).text.plain


def strip(app: CifartuiApp) -> str:
    return app.screen.query_one(CommandStrip).text.plain


def notice(app: CifartuiApp) -> str:
    shown = app.screen.query_one(OutcomeNotice)
    return shown.text.plain if shown.display else ""


async def test_the_header_says_state_progress_speed_and_best(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "training" in header(app), "the state")
            shown = header(app)
    for said in ("BaseNet", "basenet-a3f2", "epoch 9/15", "batch 703/1,407", "1,280 images/s", "lr 0.005", "(epoch 8)"):
        assert said in shown
    assert "report val 24 %, test 23.8 %" in shown


@pytest.mark.parametrize("title", ["BaseNet", "ResNet-18 with weights of ImageNet, all of its layers trained"])
async def test_the_settings_of_a_run_stand_in_its_header_however_long_the_title(runs_dir: Path, title: str) -> None:
    overrides = ("optimizer.lr=0.01",)
    run = SampleRun(
        runs_dir, "networks-resnet18-a3f2", start=NOW - 44.5, preset_name="networks/resnet18", preset=preset(title),
        seed=3, overrides=overrides,
    )  # fmt: skip
    run.live().begin().prepare()
    with run:
        run.train_epoch(1)
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "training" in header(app), "the state")
            first = header(app).splitlines()[0]
            assert " lr 0.01 seed 3 " in first
            assert first.startswith(title[:12])
            assert cell_len(first) <= 78
            assert ("…" in first) == (title != "BaseNet")


async def test_a_key_is_pending_at_once_and_applied_when_the_worker_says_so(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            await pilot.press("s")
            assert "stop after this batch: asked 0.0 s ago" in strip(app)
            await until(pilot, lambda: jsonl.command_reader(run.folder.commands).read(), "the command")
            [command] = jsonl.command_reader(run.folder.commands).read()
            assert isinstance(command, Stop)
            assert command.after == "batch"
            run.write(
                ev.CommandApplied(
                    command_id=command.id, command="Stop", accepted=True, effect="stops after this batch",
                    epoch=9, global_step=4211,
                )
            )  # fmt: skip
            await until(pilot, lambda: "applied at step 4,211" in strip(app), "the answer")
            assert "asked" not in strip(app)
            await until(pilot, lambda: "stopping" in header(app), "the header's word for it")


async def test_a_refused_command_is_shown_as_refused(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            await pilot.press("c")
            await until(pilot, lambda: jsonl.command_reader(run.folder.commands).read(), "the command")
            [command] = jsonl.command_reader(run.folder.commands).read()
            run.write(
                ev.CommandApplied(
                    command_id=command.id, command="SaveCheckpoint", accepted=False, effect="the disk is full",
                    epoch=9, global_step=4211,
                )
            )  # fmt: skip
            await until(pilot, lambda: "refused (the disk is full)" in strip(app), "the refusal")


async def test_p_pauses_then_continues_without_waiting_for_the_answer(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            await pilot.press("p", "p")
            await until(pilot, lambda: len(jsonl.command_reader(run.folder.commands).read()) == 2, "both commands")
    kinds = [type(command) for command in jsonl.command_reader(run.folder.commands).read()]
    assert sorted(kinds, key=str) == [Continue, Pause]


async def test_abort_asks_and_n_leaves_the_run_alone(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            await pilot.press("X")
            assert isinstance(app.screen, ConfirmAbort)
            await pilot.press("n")
            assert strip(app).startswith("A key shows here")
            await pilot.press("X", "y")
            assert "abort: asked" in strip(app)


async def test_a_lost_run_says_so_with_its_last_words_and_what_to_do(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=2) as run:
        run.folder.log.write_text("Killed by \x1b[31mthe kernel\x1b[0m\n")
        run.die()
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "worker lost" in header(app), "the state")
            assert "Press a to start it anew: there is no checkpoint to go on from." in notice(app)
            assert "Killed by" in notice(app)
            assert "\x1b" not in notice(app)
            await pilot.press("s")
            assert "this run has no worker (worker lost); a starts it anew" in strip(app)
            assert not run.folder.commands.exists()


async def test_a_worker_that_dies_leaves_no_key_pending(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            await pilot.press("e")
            assert "stop after this epoch: asked" in strip(app)
            run.die()
            await until(pilot, lambda: "ended before it could answer" in strip(app), "the strip to give up")


async def test_a_finished_run_shows_outcome_test_accuracy_and_best_weights(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=2) as run:
        run.finish("completed")
        app = app_on(run)
        async with app.run_test(size=(160, 45)) as pilot:
            await until(pilot, lambda: "completed" in header(app), "the state")
            assert "test 24.1 %" in header(app)
            await pilot.press("p")
            assert "Esc goes Home" in strip(app)


async def test_a_run_that_is_over_says_what_can_come_next(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=3) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 36)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            assert strip(app).startswith("A key shows here")
            run.finish("completed")
            await until(pilot, lambda: strip(app).startswith("Next: "), "the ways on")
            assert strip(app).split("    ") == [
                "Next: R trains for more epochs", "a starts anew",
                "cifartui predict basenet-a3f2 PATH says what other images show",
            ]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "checkpoints", "is_here", "ways"),
    [
        ("completed", {"best"}, False, ("R trains for more epochs", "a starts anew")),
        ("stopped", {"best"}, False, ("r resumes", "a starts anew")),
        ("failed", set(), True, ("a starts anew",)),
        ("training", {"best"}, True, ()),
    ],
)
def test_what_is_offered_is_what_the_run_has(
    runs_dir: Path, outcome: Status, checkpoints: set[str], is_here: bool, ways: tuple[str, ...]
) -> None:
    with training(runs_dir, epochs_done=3) as run:
        info, state = run.folder.read_info(), run.folder.read_state()
    state.checkpoints = {kind: saved for kind, saved in state.checkpoints.items() if kind in checkpoints}
    assert next_ways(info, state, outcome, lambda _binding, key: key, is_here=is_here) == ways


async def test_a_failed_run_shows_reason_advice_and_log(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=3) as run:
        run.write(ev.Alerted(severity="error", kind="out-of-memory", text="No GPU memory left.", advice="Batch 16?"))
        run.folder.log.write_text("torch.OutOfMemoryError: no memory\n")
        run.finish("failed", "out of GPU memory", None)
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "failed" in header(app), "the state")
            for said in ("out of GPU memory", "No GPU memory left. Batch 16?", "torch.OutOfMemoryError", "best.pt"):
                assert said in notice(app)


async def test_preparation_is_visible_step_by_step(runs_dir: Path) -> None:
    with SampleRun(runs_dir, start=NOW - 5).live() as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            steps = app.screen.query_one(Preparation)
            await until(pilot, lambda: "loading PyTorch" in steps.text.plain, "the worker starting")
            run.begin()
            run.write(
                ev.DataProgressed(phase="download", done=69_290_000, total=169_000_000, unit="B", what="CIFAR-100")
            )
            await until(pilot, lambda: "downloading CIFAR-100  41 % of 169.0 MB" in steps.text.plain, "the download")
            run.write(ev.DataProgressed(phase="decode", done=10, total=100, unit="images", what="CIFAR-100"))
            await until(pilot, lambda: "reading images of CIFAR-100  10 % of 100 images" in steps.text.plain, "reading")
            run.prepare()
            await until(pilot, lambda: "the first batch is under way" in steps.text.plain, "the plan")
            run.write(ev.DataProgressed(phase="features", done=40, total=80, unit="images", what="train images"))
            await until(pilot, lambda: "features of train images  50 % of 80" in steps.text.plain, "the features")
            assert "under way" not in steps.text.plain
            assert steps.text.plain.index("━") > steps.text.plain.index("features"), "the bar is theirs"
            run.train_epoch(1, until=0.1)
            await until(pilot, lambda: not steps.display, "the plots in its place")


async def test_generated_data_is_called_so(runs_dir: Path) -> None:
    with SampleRun(runs_dir).live().begin().prepare(generated=True).train_epoch(1, until=0.5) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "generated data" in header(app), "the label")
            log = app.screen.query_one(LogPane)
            await until(pilot, lambda: any("generated data" in sentence for sentence in log.sentences), "its place")


async def test_memory_says_plainly_that_there_is_no_gpu(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            row = app.screen.query_one("#memory-rows", ChangedStatic)
            await until(pilot, lambda: "no NVIDIA GPU: host memory" in row.text.plain, "the words")
            assert "worker 1.3 GB" in row.text.plain


async def test_leaving_a_live_run_says_how_to_come_back(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            assert app.farewell() == "Training goes on. Come back with: cifartui attach basenet-a3f2"
            await pilot.press("escape")
            assert isinstance(app.screen, Home)
            assert app.farewell() is None


async def test_too_small_recovers(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            for size in ((50, 24), (80, 12)):
                await pilot.resize_terminal(*size)
                await until(pilot, lambda: not app.screen.query_one(RunHeader).region, f"the notice at {size}")
                assert app.screen.query_one("TooSmall").display
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: app.screen.query_one(RunHeader).region, "the screen again")


async def test_a_folder_that_is_no_run_is_explained(runs_dir: Path) -> None:
    with SampleRun(runs_dir) as run:
        (run.folder.path / "run.json").write_text("{")
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.screen.query_one("#unreadable").display, "the explanation")
            await pilot.press("escape")
            assert isinstance(app.screen, Home)


async def test_home_is_silent_beneath_the_monitor_and_wakes_again(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message to a screen beneath makes Textual paint the whole screen above it, again and again."""
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            home = next(screen for screen in app.screen_stack if isinstance(screen, Home))
            heard: list[bool] = []
            monkeypatch.setattr(home, "_show_runs", lambda: heard.append(True))
            home._post(RunsListed((), 0))
            await pilot.pause()
            assert heard == []
            await pilot.press("escape")
            await until(pilot, lambda: heard, "the list of runs")


async def test_painting_does_not_build_the_footer_anew(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: monitor(app).is_live and "training" in header(app), "the run")
            built: list[bool] = []
            monkeypatch.setattr(Monitor, "refresh_bindings", lambda _self: built.append(True))
            for _ in range(3):
                monitor(app)._paint()
            assert built == []


async def test_stages_are_named_marked_and_ended_by_a_key(runs_dir: Path) -> None:
    with staged(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "stage 2/3 horizontal flip" in header(app), "the stage")
            assert "epoch 6/10" in header(app)
            await until(pilot, lambda: app.screen.query_one("#loss", Plot).chart, "the plots")
            chart = app.screen.query_one("#loss", Plot).chart
            assert chart is not None
            assert chart.boundaries == (3.0,)
            drawn = [app.screen.query_one("#loss", Plot).render_line(row).text for row in range(1, 8)]
            assert any("┊" in row for row in drawn)
            await pilot.press("n")
            assert "next stage: asked" in strip(app)
            await until(pilot, lambda: jsonl.command_reader(run.folder.commands).read(), "the command")
            [command] = jsonl.command_reader(run.folder.commands).read()
            assert isinstance(command, NextStage)
            run.write(
                ev.CommandApplied(
                    command_id=command.id, command="NextStage", accepted=True, effect="ending this stage",
                    epoch=6, global_step=7739,
                )
            )  # fmt: skip
            run.begin_stage(2, 7)
            await until(pilot, lambda: "applied at step 7,739" in strip(app), "the answer")
            await until(pilot, lambda: "stage 3/3 original images" in header(app), "the next stage")
            assert "epoch 7/9" in header(app)


async def test_a_run_of_one_stage_has_no_next_one(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_on(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: monitor(app).is_live, "the run")
            assert "next_stage" in monitor(app).idle_actions
            await pilot.press("n")
            await pilot.pause()
            assert "next stage" not in strip(app)
            assert not run.folder.commands.exists()
