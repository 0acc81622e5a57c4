"""Home, Runs, the queue and the Monitor with runs of other hosts, whose relays are real."""

from pathlib import Path

import psutil

from engine.journal import events as ev
from engine.journal.commands import Pause
from engine.journal.jsonl import command_reader
from tests.hosts import plain_host, script_host
from tests.ui.conftest import environment, until
from tests.ui.sample_run import SampleRun, training
from tui.app import CifartuiApp
from tui.screens.monitor import Monitor
from tui.screens.queue import QueueScreen
from tui.screens.runs import RunsScreen
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

            await pilot.press("G")
            commands = {each.title: each for each in app.get_system_commands(app.screen)}
            assert "Attach to run basenet-ffff on gpu1" in commands
            commands["Start mine on gpu1"].callback()
            refused = "gpu1: There is no preset"
            await until(pilot, lambda: any(refused in each.message for each in app._notifications), "what it lacks")

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
