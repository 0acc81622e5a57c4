"""Pictures of both screens, the same on every machine; renew them with --snapshot-update and look at them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.journal import events as ev
from tests.ui.conftest import NO_GPU, ONE_GPU, environment, until
from tests.ui.sample_run import NOW, SampleRun, staged, training
from tests.ui.test_ablation import lines as table_lines
from tests.ui.test_ablation import opened as opened_table
from tests.ui.test_ablation import step_run, with_shipped_presets
from tests.ui.test_home import said
from tests.ui.test_predictions import opened as opened_images
from tests.ui.test_predictions import store
from tui.app import CifartuiApp
from tui.display import Display
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.widgets.basic import ChangedStatic
from tui.widgets.lists import RunList
from tui.widgets.plot import Plot

SIZES = [(80, 24), (120, 40), (160, 45)]


def several_runs(runs_dir: Path) -> None:
    """Four runs that ended in four ways."""
    ends = [
        ("demo-11aa", "completed"),
        ("vgg-custom-77f0", ""),
        ("basenet-90ab", "failed"),
        ("basenet-5511", "stopped"),
    ]
    for number, (name, outcome) in enumerate(ends):
        with SampleRun(runs_dir, name, start=NOW - 9000 - 4000 * number).begin().prepare().train_epoch(1) as run:
            if outcome:
                run.finish(outcome)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
def test_home(snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        home = pilot.app.screen
        assert isinstance(home, Home)
        await until(pilot, lambda: home.query_one(RunList).option_count == 5, "the runs")
        await until(pilot, lambda: "97 %" in home.query_one("#gpus", ChangedStatic).text.plain, "the GPU")
        await pilot.press("j")
        await until(pilot, lambda: "basenet" in home._known.data_status, "where the data is")
        await until(pilot, lambda: "free on GPU 0" in said(pilot.app, "#description"), "the memory")

    several_runs(runs_dir)
    with training(runs_dir):
        app = CifartuiApp(runs_dir, environment=environment(ONE_GPU), display=display)
        assert snap_compare(app, terminal_size=size, run_before=ready)


def test_home_empty(snap_compare: Callable[..., bool], runs_dir: Path, display: Display) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        home = pilot.app.screen
        await until(pilot, lambda: "No NVIDIA GPU" in home.query_one("#gpus", ChangedStatic).text.plain, "the GPUs")
        await until(pilot, lambda: "generated at start" in said(pilot.app, "#description"), "where the data is")
        await until(pilot, lambda: "free in this machine" in said(pilot.app, "#description"), "the memory")
        await until(pilot, lambda: "no CIFAR-100 found and no GPU" in said(pilot.app, "#no-runs"), "the way in")

    app = CifartuiApp(runs_dir, environment=environment(NO_GPU), display=display)
    assert snap_compare(app, terminal_size=(80, 24), run_before=ready)


async def drawn(pilot: Pilot[Any]) -> None:
    """Wait for the plots."""
    monitor = pilot.app.screen
    assert isinstance(monitor, Monitor)
    await until(pilot, lambda: monitor.query_one("#accuracy", Plot).chart, "the plots")
    await until(pilot, lambda: monitor.query_one("#loss", Plot).size.width, "their size")
    monitor.paint_plots()
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gpu", [False, True])
def test_monitor(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int], gpu: bool
) -> None:
    with training(runs_dir, gpu=gpu) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment(), display=display)
        assert snap_compare(app, terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", SIZES)
def test_monitor_of_stages(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    with staged(runs_dir) as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment(), display=display)
        assert snap_compare(app, terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", SIZES)
def test_ablation(snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        screen = await opened_table(pilot)
        await until(pilot, lambda: screen.rows[3].run, "the runs")
        await until(pilot, lambda: "completed" in table_lines(screen.app)[0], "the table")

    for number in (0, 1, 2):
        step_run(runs_dir, number).train_epoch(number + 1, seconds=1).finish(test_top1=0.25).__exit__(None, None, None)
    with step_run(runs_dir, 3).live().train_epoch(1, seconds=2):
        app = CifartuiApp(runs_dir, environment=with_shipped_presets(), display=display)
        assert snap_compare(app, terminal_size=size, run_before=ready)


@pytest.mark.parametrize("size", SIZES)
def test_predictions(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        screen = await opened_images(pilot)
        await until(pilot, lambda: screen.found is not None, "the predictions")
        await pilot.pause()

    with SampleRun(runs_dir).begin().prepare() as run:
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        run.finish()
        store(run)
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment(), display=display)
        assert snap_compare(app, terminal_size=size, run_before=ready)


def _starting(run: SampleRun) -> None:
    run.live()


def _running(run: SampleRun) -> None:
    run.live().begin().prepare().train_epoch(1).train_epoch(2).train_epoch(3, until=0.5)
    run.write(
        ev.CommandApplied(
            command_id="a", command="ScaleLearningRate", accepted=True, effect="lr 0.005 → 0.0025", epoch=3,
            global_step=2 * 1407 + 300,
        )
    )  # fmt: skip
    run.write(
        ev.Alerted(severity="warning", kind="loss-spike", text="The loss jumped.", advice="[ halves the rate."), 1
    )


def _paused(run: SampleRun) -> None:
    run.live().begin().prepare().train_epoch(1).train_epoch(2, until=0.5)
    run.write(ev.Paused(global_step=2110))


def _failed(run: SampleRun) -> None:
    run.begin().prepare().train_epoch(1).train_epoch(2, until=0.5)
    advice = "Train again with a smaller optimizer.lr."
    run.write(
        ev.Alerted(severity="error", kind="non-finite-loss", text="The loss is no longer a number.", advice=advice)
    )
    run.finish("failed", "The loss is no longer a number.", test_top1=None)
    run.folder.log.write_text("loading\n")


def _finished(run: SampleRun) -> None:
    run.begin().prepare()
    for epoch in range(1, 4):
        run.train_epoch(epoch)
    run.finish("completed", "all 3 epochs are trained")


def _lost(run: SampleRun) -> None:
    run.begin().prepare().train_epoch(1).train_epoch(2, until=0.5)
    run.folder.log.write_text("loading\nKilled\n")


STATES = {_starting: 2.0, _running: 105.5, _paused: 64.5, _failed: 150.0, _finished: 150.0, _lost: 150.0}
"""And how long ago each began: a live run's last word is half a second old."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("write", STATES, ids=[write.__name__.strip("_") for write in STATES])
def test_monitor_in_its_states(
    snap_compare: Callable[..., bool],
    runs_dir: Path,
    display: Display,
    size: tuple[int, int],
    write: Callable[[SampleRun], None],
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        monitor = pilot.app.screen
        assert isinstance(monitor, Monitor)
        await until(pilot, lambda: monitor.info is not None, "the run")
        if monitor.state.steps:
            await drawn(pilot)

    with SampleRun(runs_dir, start=NOW - STATES[write]) as run:
        write(run)
        run.folder.events.write_bytes(_without_checkpoints(run.folder.events))  # their path names a temporary folder
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment(), display=display)
        assert snap_compare(app, terminal_size=size, run_before=ready)


def _without_checkpoints(events: Path) -> bytes:
    if not events.exists():
        return b""
    return b"".join(line for line in events.read_bytes().splitlines(True) if b"CheckpointSaved" not in line)


@pytest.mark.slow
def test_every_picture_is_of_a_test(request: pytest.FixtureRequest) -> None:
    """Syrupy fails for a picture that no test takes any more, but not in the processes of pytest-xdist."""
    here = Path(__file__).parent
    items = [item for item in request.session.items if item.path.parent == here]
    asked = request.config.option.keyword or any("::" in argument for argument in request.config.args)
    if asked or {item.path for item in items} != set(here.glob("test_*.py")):
        pytest.skip("not all of tests/ui is run")
    taken = {f"{item.path.stem}/{item.name}.svg" for item in items}
    kept = {str(path.relative_to(here / "__snapshots__")) for path in here.glob("__snapshots__/*/*")}
    assert kept <= taken, "pictures of no test: delete them"
