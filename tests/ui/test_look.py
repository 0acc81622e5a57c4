"""The look that the app is given: other keys, the light theme, few colours, ASCII, a slow line, notifications."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from engine.journal.commands import Stop
from engine.journal.jsonl import LineReader, command_reader
from tests.ui.conftest import ONE_GPU, environment, until
from tests.ui.sample_run import SampleRun, training
from tests.ui.test_predictions import store
from tests.ui.test_snapshots import several_runs
from tui.app import CifartuiApp
from tui.display import Display
from tui.screens.dialogs import Help
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.screens.predictions import PredictionsScreen
from tui.screens.start_dialog import StartPanel
from tui.widgets.basic import ChangedStatic
from tui.widgets.key_bar import KeyBar
from tui.widgets.lists import RunList
from tui.widgets.plot import Plot


def app_with(display: Display, runs_dir: Path, run: SampleRun | None = None) -> CifartuiApp:
    return CifartuiApp(runs_dir, attach=run.folder if run else None, environment=environment(ONE_GPU), display=display)


async def drawn(pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: isinstance(pilot.app.screen, Monitor), "the Monitor")
    await until(pilot, lambda: pilot.app.screen.query_one("#accuracy", Plot).chart, "the plots")
    await until(pilot, lambda: pilot.app.screen.query_one("#loss", Plot).size.width, "their size")


def on_screen(app: CifartuiApp) -> str:
    """Return all that is sent to paint the screen, colours included."""
    return "\n".join(strip.render(app.console) for strip in app.screen._compositor.render_strips())


async def test_a_rebound_key_acts_and_shows_and_the_usual_one_does_neither(runs_dir: Path) -> None:
    display = Display(keys={"monitor.stop": "ctrl+s", "app.help": "f1"})
    with training(runs_dir) as run:
        app = app_with(display, runs_dir, run)
        async with app.run_test(size=(120, 40)) as pilot:
            await drawn(pilot)
            reader: LineReader[Any] = command_reader(run.folder.commands)
            await pilot.press("s", "ctrl+s")
            asked: list[Any] = []
            await until(pilot, lambda: asked.extend(reader.read()) or asked, "the command")
            assert [type(command) for command in asked] == [Stop]
            keys = app.screen.query_one(KeyBar).text.plain
            assert keys.startswith("^s stop  e after epoch")
            assert "f1 help  q leave" in keys
            assert "? help" not in keys
            await pilot.press("f1")
            await until(pilot, lambda: isinstance(app.screen, Help), "the page of keys")
            page = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
            assert re.search(r"ctrl\+s +stop after this batch", page)
            assert "f1" in page


async def test_the_light_theme_is_light_everywhere(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_with(Display(theme="light"), runs_dir, run)
        async with app.run_test(size=(120, 40)) as pilot:
            await drawn(pilot)
            for strip in app.screen._compositor.render_strips():
                for _text, style, _ in strip:
                    assert style is not None
                    assert style.bgcolor is not None
                    assert style.bgcolor.triplet is not None
                    assert min(style.bgcolor.triplet) > 200, style


OPENED: list[tuple[str, Callable[[Screen[Any]], object]]] = [
    ("z", lambda screen: isinstance(screen, Monitor) and screen.zoomed == "loss"),
    ("i", lambda screen: isinstance(screen, PredictionsScreen) and screen.found is not None),
    ("escape", lambda screen: isinstance(screen, Monitor)),
    ("ctrl+p", lambda screen: isinstance(screen, CommandPalette)),
    ("escape", lambda screen: isinstance(screen, Monitor)),
    ("question_mark", lambda screen: isinstance(screen, Help)),
    ("escape", lambda screen: isinstance(screen, Monitor)),
    ("escape", lambda screen: isinstance(screen, Monitor) and screen.zoomed == "all"),
    ("escape", lambda screen: isinstance(screen, Home) and screen.runs),
    ("enter", lambda screen: isinstance(screen, StartPanel)),
]
"""Keys, and what each opens."""


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
async def test_in_ascii_nothing_else_is_painted(runs_dir: Path, size: tuple[int, int]) -> None:
    with SampleRun(runs_dir).begin().prepare() as run:
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        run.finish()
        store(run)
        app = app_with(Display(plots="ascii", colors="16"), runs_dir, run)
        async with app.run_test(size=size) as pilot:
            await drawn(pilot)
            for key, opened in OPENED:
                seen = on_screen(app)
                assert seen.isascii(), [char for char in seen if not char.isascii()]
                await pilot.press(key)
                await until(pilot, lambda opened=opened: opened(app.screen), f"what {key} opens")  # type: ignore[misc]
                await pilot.pause()
            assert on_screen(app).isascii()


async def test_without_colours_none_is_painted(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_with(Display(colors="none"), runs_dir, run)
        async with app.run_test(size=(120, 40)) as pilot:
            await drawn(pilot)
            codes = {code for seq in re.findall(r"\x1b\[([\d;]*)m", on_screen(app)) for code in seq.split(";")}
            assert codes <= {"", "0", "1", "2", "7", "39", "49"}


async def test_a_slow_line_is_painted_less_often(runs_dir: Path) -> None:
    app = app_with(Display(low_bandwidth=True), runs_dir)
    async with app.run_test() as pilot:
        assert (app.paint_every_s, app.plots_every_s) == (2.0, 5.0)
        assert app.animation_level == "none"
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(app.focused, Input), "the filter")
        assert isinstance(app.focused, Input)
        assert not app.focused.cursor_blink
    usual = app_with(Display(), runs_dir)
    assert (usual.paint_every_s, usual.plots_every_s) == (1.0, 1.0)


async def test_a_run_on_home_that_ends_is_told_once(runs_dir: Path) -> None:
    with training(runs_dir) as run:
        app = app_with(Display(), runs_dir)
        async with app.run_test(size=(120, 40)) as pilot:
            rung: list[None] = []
            app.bell = lambda: rung.append(None)  # type: ignore[method-assign]
            home = app.screen
            await until(pilot, lambda: isinstance(home, Home) and home.runs, "the run")
            run.finish()
            await until(pilot, lambda: len(app._notifications) == 1, "a line about the run")
            note = next(iter(app._notifications))
            assert note.title == "BaseNet"
            assert note.message.startswith("completed")
            assert len(rung) == 1
            app.run_ended("BaseNet", "completed", "", run.folder.id)  # as the Monitor sees it
            assert len(rung) == 1


async def test_the_end_of_a_run_and_the_palette_name_its_settings(runs_dir: Path) -> None:
    with SampleRun(runs_dir, overrides=("optimizer.lr=0.01",), seed=3).live().begin().prepare() as run:
        run.train_epoch(1)
        app = app_with(Display(), runs_dir)
        async with app.run_test(size=(120, 40)) as pilot:
            home = app.screen
            await until(pilot, lambda: isinstance(home, Home) and home.runs, "the run")
            titles = [command.title for command in app.get_system_commands(app.screen)]
            assert "Attach to run basenet-a3f2 lr 0.01 seed 3" in titles
            run.finish()
            await until(pilot, lambda: len(app._notifications) == 1, "a line about the run")
            assert next(iter(app._notifications)).title == "BaseNet lr 0.01 seed 3"


async def test_the_bell_can_be_silenced(runs_dir: Path) -> None:
    app = app_with(Display(bell=False), runs_dir)
    async with app.run_test():
        rung: list[None] = []
        app.bell = lambda: rung.append(None)  # type: ignore[method-assign]
        app.run_ended("Demo", "failed", "out of memory", "demo-0000")
        assert not rung


async def test_a_notification_reaches_an_ascii_terminal_whole(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "foot")
    app = app_with(Display(plots="ascii"), runs_dir)
    async with app.run_test():
        sent: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", sent.append)
        monkeypatch.setattr(type(app), "is_headless", False)
        app.run_ended("Zoë", "failed", "no memory …", "demo-0000")
        monkeypatch.undo()
    assert "\x1b]777;notify;Zoe;failed: no memory .\a" in sent


@pytest.mark.parametrize(
    "display",
    [Display(colors="16"), Display(colors="none")],
    ids=["16", "none"],
)
def test_home(snap_compare: Callable[..., bool], runs_dir: Path, display: Display) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        home = pilot.app.screen
        assert isinstance(home, Home)
        await until(pilot, lambda: home.query_one(RunList).option_count == 5, "the runs")
        await until(pilot, lambda: "97 %" in home.query_one("#gpus", ChangedStatic).text.plain, "the GPU")
        await pilot.press("j")
        await until(pilot, lambda: "basenet" in home._known.data_status, "where the data is")

    several_runs(runs_dir)
    with training(runs_dir):
        assert snap_compare(app_with(display, runs_dir), terminal_size=(80, 24), run_before=ready)
