"""Home, Runs, the queue and the Monitor with runs of other hosts, whose relays are real."""

from pathlib import Path

import psutil
from textual.widgets import Input, Static

from engine.journal import events as ev
from engine.journal.commands import Pause
from engine.journal.jsonl import command_reader
from engine.runs.run_options import RunOptions
from tests.hosts import plain_host, script_host
from tests.ui.conftest import environment, until
from tests.ui.sample_run import SampleRun, training
from tui.app import CifartuiApp
from tui.screens.monitor import Monitor
from tui.screens.queue import QueueScreen
from tui.screens.runs import RunsScreen
from tui.screens.start_dialog import StartPanel
from tui.widgets.basic import ChangedStatic
from tui.widgets.lists import RunList
from tui.widgets.monitor_panes import CommandStrip
from tui.widgets.other_hosts import OtherHosts
from tui.widgets.run_table import RunTable


async def test_home_shows_the_runs_of_all_hosts_and_the_monitor_steers_one_elsewhere(
    tmp_path: Path, runs_dir: Path
) -> None:
    far = tmp_path / "far"
    with training(far, name="basenet-ffff") as run, SampleRun(runs_dir, "basenet-a1a1") as here:
        here.begin().prepare().finish()
        hosts = [plain_host("gpu1", far), script_host("gpu2", "import sys; sys.exit('no')")]
        app = CifartuiApp(runs_dir, environment=environment(), hosts=hosts)
        async with app.run_test(size=(110, 40)) as pilot:
            runs = app.screen.query_one(RunList)
            await until(pilot, lambda: runs.option_count == 2, "the runs of both machines")
            rows = [str(option.prompt) for option in runs.options]
            (far_row,) = [row for row in rows if "basenet-ffff" in row]
            assert "gpu1" in far_row.split()
            told = app.screen.query_one(OtherHosts)
            await until(pilot, lambda: "at work" in told.text.plain or "nothing trains" in told.text.plain, "gpu1")
            await until(pilot, lambda: "its relay ended (no)" in told.text.plain, "why gpu2 is away")

            commands = {each.title: each for each in app.get_system_commands(app.screen)}
            assert "Attach to run basenet-ffff on gpu1" in commands
            commands["Start demo on gpu1"].callback()
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the panel")
            app.screen.query_one("#size", Input).value = "1"  # which the real preset cannot have
            await pilot.press("enter")
            await until(
                pilot, lambda: any(each.message.startswith("gpu1: ") for each in app._notifications), "what it lacks"
            )

            app.open_run(f"gpu1:{run.folder.id}")
            await until(pilot, lambda: isinstance(app.screen, Monitor) and app.screen.info is not None, "the history")
            monitor = app.screen
            assert isinstance(monitor, Monitor)
            assert (monitor.state.epoch, monitor.is_live) == (9, True)
            assert app.farewell() == f"Training goes on. Come back with: cifartui attach gpu1:{run.folder.id}"
            strip = monitor.query_one(CommandStrip)
            await pilot.press("p")
            await until(pilot, lambda: run.folder.commands.exists(), "the command there")
            (command,) = command_reader(run.folder.commands).read()
            assert isinstance(command, Pause)
            answer = ev.CommandApplied(
                command_id=command.id, command="Pause", accepted=True, effect="pause", epoch=9, global_step=777
            )
            run.write(answer)
            await until(pilot, lambda: "applied at step 777" in strip.text.plain, "the answer")

            spoken = [each for each in psutil.Process().children() if "relay" in each.cmdline()]
            for each in spoken:
                each.kill()
            await until(pilot, lambda: "the line is tried again" in strip.text.plain, "the drop")
            run.train_epoch(9)
            await until(pilot, lambda: monitor.state.epochs[-1].number == 9, "what came meanwhile")
            assert monitor.is_live
            await pilot.press("i")
            assert "the run is on gpu1" in strip.text.plain
            await pilot.press("escape")
            await until(pilot, lambda: "at work" in told.text.plain, "gpu1 again")
            run.finish()
            ended = "BaseNet on gpu1"
            await until(pilot, lambda: any(each.title == ended for each in app._notifications), "that it ended")


async def test_the_table_and_the_queue_show_other_hosts_and_what_is_done_there_only(
    tmp_path: Path, runs_dir: Path
) -> None:
    far = tmp_path / "far"
    with training(far, name="basenet-ffff") as run:
        hosts = [plain_host("gpu1", far), script_host("gpu2", "import sys; sys.exit('no')")]
        app = CifartuiApp(runs_dir, environment=environment(), hosts=hosts)
        async with app.run_test(size=(160, 40)) as pilot:
            await until(pilot, lambda: app.others is not None, "the first screen")
            await pilot.press("r")
            table = app.screen.query_one(RunTable)
            await until(pilot, lambda: len(table.rows) == 2, "a run and a host that is away")
            assert [row.id for row in table.rows] == [f"gpu1:{run.folder.id}", "gpu2"]
            screen = app.screen
            assert isinstance(screen, RunsScreen)
            assert screen.query_one("#top", ChangedStatic).text.plain.startswith(
                "Runs   1   by start"
            )  # a host that is away is no run
            assert table.fitting.columns[-1].heading == "host"
            before = sorted(far.rglob("*"))
            table.go_to_row(f"gpu1:{run.folder.id}")
            for key in ("D", "x", "Y", "R"):
                await pilot.press(key)
                assert app.screen is screen
                assert "This is on gpu1" in str(screen.query_one("#message").content)  # type: ignore[attr-defined]
            assert sorted(far.rglob("*")) == before
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Monitor) and app.screen.info is not None, "the history")
            await pilot.press("escape", "escape")
            app.open_queue()
            await until(pilot, lambda: isinstance(app.screen, QueueScreen), "the queue")
            now = app.screen.query_one("#now")
            await until(pilot, lambda: "basenet" in str(now.content), "what trains there")  # type: ignore[attr-defined]


async def test_without_other_hosts_there_is_no_pane_and_no_line(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert not app.screen.query(OtherHosts)
        assert app.others is None


async def test_a_preset_is_started_on_another_host_with_what_was_typed(tmp_path: Path, runs_dir: Path) -> None:
    asked: list[tuple[str, str, RunOptions]] = []

    def start(host: str, name: str, options: RunOptions) -> str:
        asked.append((host, name, options))
        return "" if options.seeds else f"{host}:20260921T000000-demo-0001"

    app = CifartuiApp(runs_dir, environment=environment(), hosts=[plain_host("gpu1", tmp_path / "far")])
    async with app.run_test(size=(110, 40)) as pilot:
        told = app.screen.query_one(OtherHosts)
        await until(pilot, lambda: "nothing trains" in told.text.plain, "gpu1")
        assert app.others is not None
        app.others.start = start  # type: ignore[method-assign]
        for number, (typed, seeds) in enumerate((("0.25", ""), ("0.5", "1,2")), 1):
            commands = {each.title: each for each in app.get_system_commands(app.screen)}
            commands["Start demo on gpu1"].callback()
            await until(pilot, lambda: isinstance(app.screen, StartPanel), "the panel")
            panel = app.screen
            assert str(panel.query_one("#what", Static).content) == "Start demo on gpu1"
            assert not panel.query("#data")  # folders there are not seen from here
            assert "gpu1 says whether it has the data" in panel.query_one("#fit", ChangedStatic).text.plain
            panel.query_one("#lr", Input).value = typed
            panel.query_one("#seeds", Input).value = seeds or "1"
            await pilot.press("enter")
            await until(pilot, lambda number=number: len(asked) == number, "the start")
            if seeds:
                break
            await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
            await pilot.press("escape")
        said = "demo is in the queue of gpu1."
        await until(pilot, lambda: any(said in each.message for each in app._notifications), "what is queued")
    assert [(host, name) for host, name, _ in asked] == [("gpu1", "demo")] * 2
    assert [options.overrides for _, _, options in asked] == [("optimizer.lr=0.25",), ("optimizer.lr=0.5",)]
    assert [options.seeds for _, _, options in asked] == [(), (1, 2)]
