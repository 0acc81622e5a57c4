"""The Runs screen: what is listed, how it is filtered and sorted, and what its keys do to runs."""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input

from engine.runs.run_dir import RunDir
from presets import schema
from presets.errors import CifartuiError
from tests.ui.conftest import environment, until
from tests.ui.sample_run import NOW, SampleRun, preset
from tui.app import CifartuiApp
from tui.data import model_export
from tui.data.run_list import Damaged
from tui.screens import run_actions
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.screens.run_dialogs import ConfirmDelete, DifferencePanel, ExportPanel
from tui.screens.runs import RunsScreen
from tui.widgets.basic import ChangedStatic
from tui.widgets.key_bar import KeyBar
from tui.widgets.plot import Plot
from tui.widgets.run_table import RunHeading, RunTable

DAMAGED = "20260101T000000-broken-dead"


def made(
    runs_dir: Path, name: str, age_s: float, epochs: int, outcome: str = "completed", num_bytes: int = 0, **info: object
) -> RunDir:
    """Return a run that ended as said."""
    with SampleRun(runs_dir, name, start=NOW - age_s, **info).begin().prepare() as run:
        for epoch in range(1, epochs + 1):
            run.train_epoch(epoch)
        if outcome:
            run.finish(outcome)  # type: ignore[arg-type]
        if num_bytes:
            run.folder.last.write_bytes(b"")
            with run.folder.last.open("r+b") as file:
                file.truncate(num_bytes)
    return run.folder


def several(runs_dir: Path) -> None:
    """Make seven runs in all the states that need no worker, one of them damaged."""
    made(runs_dir, "basenet-11aa", 9_000, 15, num_bytes=900_000)
    changed = preset(optimizer=schema.Sgd(lr=0.05, momentum=0.9))
    lr = {"preset": changed, "overrides": ("optimizer.lr=0.05",)}
    made(runs_dir, "basenet-22bb", 20_000, 12, "stopped", num_bytes=52_000_000, seed=3, **lr)
    made(runs_dir, "vgg-custom-33cc", 90_000, 6, "failed", preset_name="vgg-custom", preset=preset("Custom VGG", 30))
    made(runs_dir, "demo-44dd", 200_000, 2, "aborted", preset_name="demo")
    made(runs_dir, "resnet50-finetune-55ee", 300_000, 4, "", preset_name="resnet50-finetune")
    made(runs_dir, "ablation-step-12-66ff", 400_000, 0, "", preset_name="ablation/step-12")
    damaged = runs_dir / DAMAGED
    damaged.mkdir()
    (damaged / "run.json").write_text('{"id": ')


def runs_screen(app: CifartuiApp) -> RunsScreen:
    screen = app.screen
    assert isinstance(screen, RunsScreen)
    return screen


async def opened(pilot: Pilot[Any], num: int) -> RunsScreen:
    """Open the screen from Home and wait until it knows `num` runs."""
    app = pilot.app
    assert isinstance(app, CifartuiApp)
    await until(pilot, lambda: isinstance(app.screen, Home), "Home")
    await pilot.press("r")
    await until(pilot, lambda: isinstance(app.screen, RunsScreen), "the screen")
    screen = runs_screen(app)
    await until(pilot, lambda: screen.listed.num_all == num and not screen.listed.num_unread, "the runs")
    return screen


def names(screen: RunsScreen) -> list[str]:
    return [row.id[16:] for row in screen.query_one(RunTable).rows]


def told(screen: RunsScreen, selector: str = "#message") -> str:
    return screen.query_one(selector, ChangedStatic).text.plain


def painted(screen: RunsScreen) -> list[str]:
    table = screen.query_one(RunTable)
    return [table.render_line(y).text for y in range(min(table.size.height, len(table.rows)))]


async def test_without_runs_it_says_what_to_do(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 0)
        await until(pilot, lambda: "No runs in" in told(screen, "#no-rows"), "the explanation")
        assert "Esc goes back to Home, where Enter starts" in told(screen, "#no-rows")
        for key in ("space", "v", "equals_sign", "R", "x", "y", "Y", "D", "enter", "o", "O", "u", "j", "G"):
            await pilot.press(key)
        assert runs_screen(app) is screen
        await pilot.press("escape")
        assert isinstance(app.screen, Home)
    assert not runs_dir.exists()


@pytest.mark.parametrize(
    ("size", "headings"),
    [
        ((80, 24), ["run", "state", "epoch", "best val", "test", "started▾"]),
        ((120, 40), ["run", "state", "epoch", "best val", "test", "duration", "size", "started▾"]),
        ((160, 45), ["run", "state", "epoch", "best val", "test", "started▾"]),
    ],
)
async def test_columns_that_fit(runs_dir: Path, size: tuple[int, int], headings: list[str]) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, 7)
        heading = screen.query_one(RunHeading)
        await until(pilot, lambda: heading.text.plain.split("  ")[-1].strip() == headings[-1], "the heading")
        assert [part.strip() for part in heading.text.plain.split("  ") if part.strip()] == headings
        assert heading.text.cell_len <= screen.query_one(RunTable).size.width
        first = painted(screen)[0].split()
        assert first[:1] == ["basenet-11aa"]
        assert {"completed", "15/15"} <= set(first)
        if size[0] == 160:  # with the curves put away there is room for all columns
            await pilot.press("v")
            await until(pilot, lambda: "host" in heading.text.plain, "all columns")
            assert painted(screen)[0].split()[-1] == "gpu-box"


async def test_filter_order_and_their_words(runs_dir: Path) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, 7)
        assert names(screen)[0] == "basenet-11aa"
        assert "7   by start, newest first" in told(screen, "#top")
        await pilot.press("slash", *"stopped lr", "enter")
        assert names(screen) == ["basenet-22bb"]
        assert "1 of 7" in told(screen, "#top")
        assert screen.query_one(RunTable).has_focus
        await pilot.press("escape", "o")
        assert len(names(screen)) == 7
        assert "by best val, highest first" in told(screen, "#top")
        assert names(screen)[-1] == "broken-dead"
        await pilot.press("o", "o", "o", "O")
        assert "by size on disk, smallest first" in told(screen, "#top")
        assert names(screen)[-2:] == ["basenet-22bb", "broken-dead"]
        assert "size▴" in screen.query_one(RunHeading).text.plain
        column = screen.query_one(RunHeading).text.plain.index("started")
        await pilot.click(RunHeading, offset=(column, 0))
        await until(pilot, lambda: names(screen)[0] == "basenet-11aa", "the order clicked")
        await pilot.click(RunHeading, offset=(column, 0))
        await until(pilot, lambda: names(screen)[0] == "ablation-step-12-66ff", "the other way round")
        await pilot.press("slash", *"nothing like it")
        assert "No run has all these words" in told(screen, "#no-rows")


async def test_the_cursor_stays_on_its_run_and_enter_opens_it(runs_dir: Path) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        table = screen.query_one(RunTable)
        await pilot.press("j", "j")
        assert table.chosen is not None
        assert table.chosen.id.endswith("vgg-custom-33cc")
        await pilot.press("O")
        made(runs_dir, "newest-77aa", 100, 1)
        screen.list_again()
        await until(pilot, lambda: "newest-77aa" in names(screen), "the new run")
        assert table.chosen.id.endswith("vgg-custom-33cc")
        await pilot.press("enter")
        monitor = app.screen
        assert isinstance(monitor, Monitor)
        assert monitor.run_folder.id.endswith("vgg-custom-33cc")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "the runs again")


async def test_screens_beneath_are_silent(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        home = next(each for each in app.screen_stack if isinstance(each, Home))
        assert home._is_asleep
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
        heard: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(screen, "post_message", heard.append)
            screen.post(screen.listed)
        assert heard == []


async def test_marked_runs_are_drawn_over_each_other(runs_dir: Path) -> None:
    several(runs_dir)
    for number in range(4):
        made(runs_dir, f"basenet-99a{number}", 8_000 - number, 3)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(160, 45)) as pilot:
        screen = await opened(pilot, 11)
        plot = screen.query_one("#over-top1", Plot)
        await until(pilot, lambda: plot.chart and plot.chart.lines, "the run under the cursor")
        assert told(screen, "#over-legend").startswith("1 basenet-99a3 ")
        await pilot.press(*["space"] * 8)
        legend = told(screen, "#over-legend")
        assert "6 basenet lr 0.05 seed 3" in legend
        assert legend.endswith("and 2 more marked, not drawn")
        assert [line[:2].strip() for line in painted(screen)[:9]] == ["1", "2", "3", "4", "5", "6", "+", "+", ""]
        assert plot.chart is not None
        assert len({line.color for line in plot.chart.lines if not line.marker}) == 6
        assert plot.chart.reference is not None
        assert "8 marked" in told(screen, "#top")
        await pilot.press("u")
        assert "marked" not in told(screen, "#top")
        await pilot.press("v")
        await until(pilot, lambda: not screen.query_one("#overlay").size.width, "the curves put away")


async def test_reports_that_differ_are_not_drawn(runs_dir: Path) -> None:
    made(runs_dir, "basenet-11aa", 9_000, 3)
    made(runs_dir, "other-22bb", 9_500, 3, preset=preset("Other", report=schema.Report(val_top1=0.5)))
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 2)
        plot = screen.query_one("#over-top1", Plot)
        await pilot.press("v")
        await until(pilot, lambda: plot.chart and plot.chart.reference, "one run's report")
        await pilot.press("space", "space")
        await until(pilot, lambda: plot.chart and not plot.chart.reference, "two runs without one")


async def test_in_what_marked_runs_differ(runs_dir: Path) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        await pilot.press("space", "equals_sign")
        assert "Mark two runs or more" in told(screen)
        await pilot.press("space", "equals_sign")
        await until(pilot, lambda: isinstance(app.screen, DifferencePanel), "the panel")
        panel = app.screen
        assert isinstance(panel, DifferencePanel)
        table = panel._table().plain.splitlines()
        assert table[0].split() == ["basenet-11aa", "basenet-22bb"]
        assert [line.split() for line in table[1:]] == [["optimizer.lr", "0.005", "0.05"], ["seed", "0", "3"]]
        await pilot.press("escape")
        assert app.screen is screen


async def test_delete_asks_and_removes(runs_dir: Path) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        await pilot.press("space", "space", "D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDelete), "the question")
        await pilot.press("n")
        await until(pilot, lambda: "nothing was deleted" in told(screen), "the answer")
        assert len(list(runs_dir.iterdir())) == 7
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDelete), "the question again")
        await pilot.press("y")
        await until(pilot, lambda: "2 runs deleted, 53." in told(screen), "the answer")
        await until(pilot, lambda: len(names(screen)) == 5, "the rows gone")
        assert screen.marked == []
        await pilot.press("G")
        await until(pilot, lambda: "run.json cannot be read" in told(screen), "the reason of the damaged one")
        assert isinstance(screen.query_one(RunTable).chosen, Damaged)
        await pilot.press("enter")
        assert "cannot be opened" in told(screen)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDelete), "the question")
        await pilot.press("y")
        await until(pilot, lambda: not (runs_dir / DAMAGED).exists(), "the damaged one deleted")


async def test_what_came_of_a_deletion_is_told_after_leaving(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(runs_dir, "basenet-11aa", 9_000, 1)
    go_on = threading.Event()
    delete = run_actions.delete
    monkeypatch.setattr(run_actions, "delete", lambda *asked: (go_on.wait(20), delete(*asked))[1])
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 1)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDelete), "the question")
        await pilot.press("y", "escape")
        await until(pilot, lambda: isinstance(app.screen, Home), "Home")
        go_on.set()
        await until(pilot, lambda: any("1 run deleted" in each.message for each in app._notifications), "the answer")
    assert not run.path.exists()


async def test_a_run_with_a_worker_is_neither_deleted_nor_resumed(runs_dir: Path) -> None:
    with SampleRun(runs_dir, "basenet-11aa", start=NOW - 50).live().begin().prepare().train_epoch(1) as run:
        app = CifartuiApp(runs_dir, environment=environment())
        async with app.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, 1)
            await pilot.press("R")
            assert "has a worker already (training)" in told(screen)
            await pilot.press("D")
            await until(pilot, lambda: "has a worker; stop it first" in told(screen), "the refusal")
        assert run.folder.path.exists()


async def test_resume_starts_a_worker(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several(runs_dir)
    started: list[Any] = []
    monkeypatch.setattr(
        "engine.runs.start.start_worker", lambda run, *, resume, **_: started.append((run.id[16:], resume))
    )
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        await pilot.press("R")
        assert "is completed: open it with enter" in told(screen)
        await pilot.press("j", "R")
        await until(pilot, lambda: "a worker was started" in told(screen), "the answer")
    assert started == [("basenet-22bb", True)]


async def test_a_resume_is_offered_of_runs_that_have_a_checkpoint(runs_dir: Path) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        keys = screen.query_one(KeyBar)
        assert "resume" not in keys.text.plain  # completed
        await pilot.press("j")
        await until(pilot, lambda: "R resume" in keys.text.plain, "the key, of a stopped run")
        await pilot.press("j")
        await until(pilot, lambda: "resume" not in keys.text.plain, "no such key, of a run without checkpoint")
        await pilot.press("R")
        assert "has no checkpoint to go on from" in told(screen)


async def test_export_says_where_and_never_writes_over(runs_dir: Path, tmp_path: Path) -> None:
    several(runs_dir)
    path = tmp_path / "curves.svg"
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 7)
        await pilot.press("x")
        panel = app.screen
        assert isinstance(panel, ExportPanel)
        field = panel.query_one(Input)
        assert field.value == f"{Path.cwd()}/{screen.listed.runs[0].id}.csv"
        await pilot.press("down", "down")
        assert field.value.endswith("basenet-11aa.svg")
        field.value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: f"written to {path}" in told(screen).replace("\n", ""), "the answer")
        assert path.read_text().startswith("<svg")
        path.write_text("mine")
        await pilot.press("x", "down", "down")
        app.screen.query_one(Input).value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: "is there already" in told(screen), "the refusal")
        assert path.read_text() == "mine"
        await pilot.press("x", "escape")
        assert app.screen is screen


def joined(text: str) -> str:
    """Return a text without the spaces and ends of lines at which it may be broken."""
    return "".join(text.split())


async def test_export_of_a_network_runs_in_a_process_and_says_how_it_was_checked(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    advice = "ONNX needs the library onnx: install it into this Python with: pip install 'cifartui[onnx]'"
    checked = {
        "num_images": 256, "is_random": False, "why_random": "", "largest_difference": 1.5e-6, "largest_logit": 9.5,
        "num_agreeing": 256, "num_resized": 0,
    }  # fmt: skip

    def answers(module: str, arguments: list[str]) -> Iterator[bytes]:
        asked.append([module, *arguments])
        if "onnx" in arguments:
            raise CifartuiError(advice)
        yield b'{"doing": "loading the network"}'
        Path(arguments[1]).write_bytes(b"tensors")
        yield json.dumps({"record": {}, "num_bytes": 7, "checked": checked}).encode()

    monkeypatch.setattr(model_export, "stream_module", answers)
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, 7)
        run = screen.listed.runs[0].id
        for kind, downs in (("onnx", 3), ("safetensors", 4)):
            await pilot.press("x", *["down"] * downs)
            field = app.screen.query_one(Input)
            assert field.value == f"{Path.cwd()}/{run}.{kind}"
            field.value = str(tmp_path / f"m.{kind}")
            await pilot.press("enter")
            expected = joined(advice if kind == "onnx" else "largest difference of two logits is 1.5e-06")
            await until(pilot, lambda words=expected: words in joined(told(screen)), "the answer")
        assert joined(f"written to {tmp_path / 'm.safetensors'}") in joined(told(screen))
    assert [path.name for path in tmp_path.glob("*m.*")] == ["m.safetensors"]
    assert [each[:2] for each in asked] == [["engine.training.export_model", str(runs_dir / run)]] * 2


async def test_marked_runs_are_exported_as_one_picture_with_the_axis_of_the_screen(
    runs_dir: Path, tmp_path: Path
) -> None:
    several(runs_dir)
    path = tmp_path / "overlay.svg"
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(160, 45)) as pilot:
        screen = await opened(pilot, 7)
        await pilot.press(*["space"] * 4, "y")
        assert "logarithmic" in told(screen)
        chart = screen.query_one("#over-loss", Plot).chart
        assert chart is not None
        assert chart.y.is_log
        await pilot.press("x")
        panel = app.screen
        assert isinstance(panel, ExportPanel)
        field = panel.query_one(Input)
        assert field.value == f"{Path.cwd()}/overlay.svg"
        field.value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: f"written to {path}" in told(screen).replace("\n", ""), "the answer")
        assert path.read_text().startswith("<svg")
        await pilot.press("y")
        assert "linear" in told(screen)
        await pilot.press("v", "y")
        assert "the curves are hidden" in told(screen)


async def test_the_path_is_copied_and_shown(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(runs_dir, "basenet-11aa", 9_000, 1)
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 1)
        assert app._driver is not None
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        await pilot.press("Y")
        assert app.clipboard == str(run.path)
        assert str(run.path) in told(screen)
    code = base64.b64encode(str(run.path).encode()).decode()
    assert f"\x1b]52;c;{code}\a" in written
    assert f"\x1bPtmux;\x1b\x1b]52;c;{code}\a\x1b\\" in written


async def test_only_rows_that_changed_are_painted(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several(runs_dir)
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, 7)
        table = screen.query_one(RunTable)
        await until(pilot, lambda: len(table._painted) == 7, "the rows")
        refreshed: list[int] = []
        monkeypatch.setattr(table, "refresh_line", refreshed.append)
        monkeypatch.setattr(table, "refresh", lambda *_: refreshed.append(-1))
        screen._show()
        assert refreshed == []
        screen.marked = [table.rows[2].id]
        screen._show()
        assert refreshed == [2]


def test_every_binding_has_an_id_of_its_own() -> None:
    classes = (RunsScreen, RunTable, ConfirmDelete, DifferencePanel, ExportPanel)
    ids = [binding.id for each in classes for binding in each.BINDINGS]  # type: ignore[attr-defined, union-attr]
    assert all(str(each).startswith("runs.") for each in ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("file", "is_late"), [("run.json", True), ("events.jsonl", True), ("events.jsonl", False)])
async def test_no_key_breaks_over_a_run_that_cannot_be_opened(runs_dir: Path, file: str, is_late: bool) -> None:
    """With `is_late` it becomes so once the table shows it."""
    runs = [made(runs_dir, name, age_s, 1) for name, age_s in (("basenet-11aa", 9_000), ("basenet-22bb", 99_000))]

    def spoil() -> None:
        for run in runs:
            (run.path / file).rename(run.path / "before")
            (run.path / file).symlink_to(file)

    if not is_late:
        spoil()
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, len(runs))
        if is_late:
            spoil()
        await pilot.press("space", "space")
        actions = [binding.action for binding in RunsScreen.BINDINGS if isinstance(binding, Binding)]
        for action in actions:
            if action not in {"back", "delete"}:
                await screen.run_action(action)
                await until(
                    pilot, lambda: all(each.is_finished for each in app.workers if each.group == "actions"), action
                )
                await pilot.pause()
                assert "[Errno" not in told(screen)
                while app.screen is not screen:
                    app.pop_screen()
                    await pilot.pause()
        screen.marked = [run.id for run in runs]
        await screen.run_action("delete")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDelete), "the question")
        await pilot.press("y")
        await until(pilot, lambda: "2 runs deleted" in told(screen), "the end of both")
    assert app.crash is None
