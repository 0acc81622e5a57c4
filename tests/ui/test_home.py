"""Home: presets, their description, starting one, and the runs below."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual.command import CommandList, CommandPalette
from textual.widgets import Input, Static

from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from tests.ui.conftest import ONE_GPU, environment, until
from tests.ui.sample_run import NOW, SampleRun, preset, training
from tests.ui.test_text_field import burst
from tui.app import CifartuiApp
from tui.screens.dialogs import Help
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.screens.start_dialog import StartPanel
from tui.widgets.basic import ChangedStatic
from tui.widgets.lists import PresetList, RunList


def said(app: CifartuiApp, selector: str) -> str:
    """Return what a Static shows, as plain text."""
    widget = app.screen.query_one(selector, Static)
    console = Console(width=100, record=True, file=sys.stderr, force_terminal=False)
    with console.capture() as capture:
        console.print(widget.content)
    return capture.get()


async def test_the_first_visit_explains_itself(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        gpus = app.screen.query_one("#gpus", ChangedStatic)
        await until(pilot, lambda: "No NVIDIA GPU" in gpus.text.plain, "the GPUs")
        assert gpus.text.plain.endswith("no NVIDIA driver on this machine. Training will use the CPU (8 cores).")
        await until(pilot, lambda: "generated at start" in said(app, "#description"), "where the data is")
    assert not runs_dir.exists()


async def test_moving_describes_the_preset_and_its_data(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("j", "down")
        assert "val 77.0 %, test 78.2 %" in said(app, "#description")
        await until(pilot, lambda: "downloaded at start" in said(app, "#description"), "what to do about the data")
        await pilot.press("j")
        assert "optimizer.lr must be greater than 0" in said(app, "#description")
        await pilot.press("enter")
        assert isinstance(app.screen, Home)
        gpus = app.screen.query_one("#gpus", ChangedStatic)
        await until(pilot, lambda: "36.3 / 42.9 GB" in gpus.text.plain, "the GPU")
        assert "97 %" in gpus.text.plain


async def test_filter_narrows_and_escape_brings_all_back(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        presets = app.screen.query_one(PresetList)

        def names() -> list[str]:
            return [option.id for option in presets.options if option.id]

        await pilot.press("slash", "v", "g", "g", "enter")
        assert names() == ["vgg-custom"]
        assert presets.has_focus
        assert presets.chosen() == "vgg-custom"
        await pilot.press("escape")
        assert names() == ["demo", "basenet", "vgg-custom", "mine"]


async def test_keys_behind_the_enter_of_a_filter_go_to_what_it_found(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("slash")
        burst(app, "v", "g", "g", "enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, StartPanel), "the panel")
        assert str(app.screen.query_one("#what", Static).content) == "Start vgg-custom"
        await pilot.press("escape")
        assert app.screen.query_one("#filter", Input).value == "vgg"
        await pilot.press("slash")
        burst(app, "enter", "l", "j")
        await until(pilot, lambda: app.screen.has_class("-layers"), "the layers")
        assert app.screen.query_one("#filter", Input).value == "vgg"


async def test_where_no_preset_matches_nothing_is_looked_up(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: "layers" in said(app, "#layers-heading"), "the layers")
        await pilot.press("slash", *"nosuch")
        await until(pilot, lambda: "No preset is chosen." in said(app, "#layers-table"), "no layers")


async def test_enter_enter_starts_with_defaults(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    with training(runs_dir, epochs_done=1) as run:

        def start(*arguments: Any) -> RunDir:
            started.append(arguments)
            return run.folder

        app = CifartuiApp(runs_dir, data_dir="/data", environment=environment(start=start))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("enter", "enter")
            await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
    assert started == [(runs_dir, "demo", RunOptions(data_dir="/data"))]


async def test_runs_are_listed_and_enter_attaches(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=2):
        app = CifartuiApp(runs_dir, environment=environment())
        async with app.run_test(size=(80, 24)) as pilot:
            runs = app.screen.query_one(RunList)
            await until(pilot, lambda: runs.option_count == 1, "the run")
            line = str(runs.options[0].prompt)
            assert line.split() == ["training", "basenet-a3f2", "3/15", "best", "val", "21.4", "%", "1", "min", "ago"]
            await pilot.press("tab", "enter")
            assert isinstance(app.screen, Monitor)
            await pilot.press("escape", "a")
            assert isinstance(app.screen, Monitor)


async def test_rows_that_no_run_needs_are_the_presets(runs_dir: Path) -> None:
    with training(runs_dir):
        app = CifartuiApp(runs_dir, environment=environment())
        async with app.run_test(size=(160, 45)) as pilot:
            await until(pilot, lambda: app.screen.query_one(RunList).option_count == 1, "the run")
            recent, presets = app.screen.query_one("#recent"), app.screen.query_one("#presets")
            await until(pilot, lambda: recent.size.height == 2, "a lower pane")
            assert presets.size.height > 30


async def test_where_there_is_room_the_settings_of_a_run_are_not_cut(runs_dir: Path) -> None:
    overrides = ("optimizer.lr=0.01", "optimizer.momentum=0.85", "train.batch_size=64", "loss.label_smoothing=0.1")
    run = SampleRun(
        runs_dir, "basenet-a3f2", start=NOW, preset_name="basenet", preset=preset("BaseNet"), overrides=overrides
    )
    with run.live().begin():
        app = CifartuiApp(runs_dir, environment=environment())
        async with app.run_test(size=(160, 45)) as pilot:
            runs = app.screen.query_one(RunList)
            await until(pilot, lambda: runs.option_count == 1, "the run")
            assert "lr 0.01 momentum 0.85 batch 64 smoothing 0.1 " in str(runs.options[0].prompt)


async def test_the_palette_offers_actions_and_runs(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
        async with app.run_test(size=(80, 24)) as pilot:
            home = next(screen for screen in app.screen_stack if isinstance(screen, Home))
            await until(pilot, lambda: home.runs, "the list of runs")
            titles = {command.title for command in app.get_system_commands(app.screen)}
            at_home = {command.title for command in app.get_system_commands(home)}
    wanted = {
        "Stop after this batch: validate, test the best weights", "Stop after this epoch", "Pause, and continue",
        "Write a checkpoint now", "Halve the learning rate", "Abort: end at once (asks first)", "Help", "Leave",
    }  # fmt: skip
    assert wanted <= titles
    assert "Attach to run basenet-a3f2" in at_home - titles  # the Monitor shows it already


async def test_the_palette_offers_what_has_an_effect_and_what_takes_away_last(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
        async with app.run_test(size=(80, 24)) as pilot:
            monitor = app.screen
            assert isinstance(monitor, Monitor)
            await until(pilot, lambda: monitor.is_live, "the run")
            live = [command.title for command in app.get_system_commands(monitor)]
            run.finish()
            await until(pilot, lambda: not monitor.is_live, "its end")
            over = [command.title for command in app.get_system_commands(monitor)]
            await pilot.press("ctrl+p")
            palette = app.screen
            assert isinstance(palette, CommandPalette)
            await until(pilot, lambda: palette.query_one(CommandList).option_count >= len(over), "the entries")
            first = palette.query_one(CommandList).options[0]
            assert first.hit.text == over[0]  # type: ignore[attr-defined]
    assert live[-1] == "Abort: end at once (asks first)"
    assert len(live) == len(set(live))
    stops = {"Abort: end at once (asks first)", "Stop after this epoch", "Halve the learning rate"}
    assert stops <= set(live)
    assert not stops & set(over)


async def test_the_palette_starts_a_preset_by_its_name_from_anywhere(runs_dir: Path) -> None:
    with training(runs_dir, epochs_done=1) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
        async with app.run_test(size=(100, 40)) as pilot:
            assert isinstance(app.screen, Monitor)
            home = next(screen for screen in app.screen_stack if isinstance(screen, Home))
            await until(pilot, lambda: list(home.starts_by_name()), "the presets")
            commands = {command.title: command for command in app.get_system_commands(app.screen)}
            commands["Start basenet"].callback()
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the panel")
            assert "Start basenet" in str(app.screen.query_one("#what", Static).content)
            await pilot.press("escape")
            assert isinstance(app.screen, Home)


async def test_help_opens_and_closes(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert isinstance(app.screen, Home)


def test_the_dashboard_does_without_torch() -> None:
    code = (
        "import sys, tui.app, engine.runs.start, tui.screens.monitor, tui.screens.home\n"
        "import engine.shared.data_locations, engine.shared.sampling\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'torch', 'torchvision', 'numpy'}])\n"
        "print('plotext' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "False"]
