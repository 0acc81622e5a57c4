"""The queue's screen: it explains itself empty, shows edits at once, and never waits for the disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.text import Text
from textual.pilot import Pilot

from engine.queue import queue_file, runner_process
from engine.runs.run_options import RunOptions
from engine.runs.worker_mark import WorkerMark
from tests.ui.conftest import ONE_GPU, environment, until
from tests.ui.sample_run import HOST, NOW, SampleRun, preset, training
from tui.app import CifartuiApp
from tui.display import Display
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.screens.queue import QueueScreen
from tui.widgets.basic import ChangedStatic
from tui.widgets.lists import Pickable


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Start no runner; remember where one was asked for."""
    asked: list[Path] = []
    monkeypatch.setattr(queue_file, "start_runner", lambda runs_dir, notify="": asked.append(runs_dir))
    return asked


@contextmanager
def runner(runs_dir: Path) -> Iterator[None]:
    """A runner that does nothing."""
    lock_fd = runner_process.claim_runner(runs_dir)
    assert lock_fd is not None
    os.pwrite(lock_fd, msgspec.json.encode(WorkerMark(pid=4711, host=HOST)), 0)
    yield
    os.close(lock_fd)


def fill(runs_dir: Path) -> tuple[queue_file.Entry, ...]:
    return (
        *queue_file.add(runs_dir, ["demo", "basenet"], RunOptions(overrides=("train.epochs=3",), seed=7)),
        *queue_file.add(runs_dir, ["vgg-custom"], RunOptions(device="cuda:1")),
        *queue_file.add(
            runs_dir,
            ["ablation/step-05-dropout-head"],
            RunOptions(overrides=("train.batch_size=32", "optimizer.lr=0.001")),
        ),
    )


def lines(app: CifartuiApp) -> list[str]:
    shown = app.screen.query_one("#entries", Pickable)
    return [option.prompt.plain for option in shown.options if isinstance(option.prompt, Text)]


def names(app: CifartuiApp) -> list[str]:
    return [line.split()[1] for line in lines(app)]


def said(app: CifartuiApp, selector: str = "#footnote") -> str:
    return app.screen.query_one(selector, ChangedStatic).text.plain


def in_file(runs_dir: Path) -> list[str]:
    return [entry.preset_name for entry in queue_file.entries(runs_dir)]


def an_app(runs_dir: Path, display: Display | None = None) -> CifartuiApp:
    return CifartuiApp(runs_dir, environment=environment(), display=display)


async def opened(pilot: Pilot[Any], num_entries: int) -> QueueScreen:
    app = pilot.app
    assert isinstance(app, CifartuiApp)
    app.open_queue()
    app.open_queue()  # once is enough
    await until(pilot, lambda: isinstance(app.screen, QueueScreen) and app.screen.read, "the queue")
    screen = app.screen
    assert isinstance(screen, QueueScreen)
    await until(pilot, lambda: len(lines(app)) == num_entries, "its entries")
    return screen


async def test_empty_it_says_how_presets_get_here(runs_dir: Path) -> None:
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 0)
        assert "mark them with Space, then press Enter" in said(app, "#nothing")
        assert said(app, "#now") == "Nothing is training."
        await pilot.press("d", "u", "K", "J", "enter", "r")
        assert isinstance(app.screen, QueueScreen)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Home), "Home")
    assert not runs_dir.exists()


async def test_entries_are_listed_with_what_they_wait_for(runs_dir: Path) -> None:
    fill(runs_dir)
    app = an_app(runs_dir)
    with training(runs_dir, epochs_done=2), runner(runs_dir):
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(pilot, 4)
            await until(pilot, lambda: "waits for" in lines(app)[0], "the run")
            assert lines(app)[0].split() == [
                "1", "demo", "epochs", "3", "seed", "7", "auto", "waits", "for", "basenet-a3f2",
            ]  # fmt: skip
            assert [line.split("  ")[-1] for line in lines(app)[1:]] == ["after 1", "next", "after 2"]
            await until(pilot, lambda: "basenet-a3f2" in said(app, "#now"), "what is training")
            assert said(app, "#top").endswith("the runner is at work (process 4711 on gpu-box)")
            assert "epoch 3/15" in said(app, "#now")


async def test_on_several_gpus_what_is_left_to_choose_waits_for_any_of_them(runs_dir: Path) -> None:
    queue_file.add(runs_dir, ["demo", "basenet"])
    queue_file.add(runs_dir, ["vgg-custom"], RunOptions(device="cuda:1"))
    gpus = tuple(replace(ONE_GPU.gpus[0], index=index, memory_used_bytes=0) for index in range(3))
    app = CifartuiApp(runs_dir, environment=environment(replace(ONE_GPU, gpus=gpus)))
    told = (SampleRun(runs_dir, f"told-{index}", start=NOW - index, device=f"cuda:{index}") for index in range(2))
    first, second = (run.live().begin() for run in told)
    with first, second:
        async with app.run_test(size=(120, 40)) as pilot:
            screen = await opened(pilot, 3)
            assert [line.split("  ")[-1] for line in lines(app)] == ["next", "after 1", "after 2"]
            with SampleRun(runs_dir, "third", start=NOW, device="cuda:2").live().begin():
                screen._queue_editor.show(True)
                await until(pilot, lambda: lines(app)[0].endswith("waits for a GPU"), "what is held now")
                await pilot.press("enter")
                await until(pilot, lambda: isinstance(app.screen, Monitor), "one of the runs that it waits for")


async def test_what_is_taken_out_is_said_and_u_puts_it_back(runs_dir: Path, started: list[Path]) -> None:
    fill(runs_dir)
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, 4)
        await pilot.press("j", "d")
        assert names(app) == ["demo", "vgg-custom", "ablation/step-05-dropout-head"]
        await until(pilot, lambda: "Taken out: basenet (train.epochs=3 seed 7)" in said(app), "what was done")
        assert in_file(runs_dir) == ["demo", "vgg-custom", "ablation/step-05-dropout-head"]
        assert screen.query_one("#entries", Pickable).highlighted == 1
        await pilot.press("delete", "d")
        await until(pilot, lambda: in_file(runs_dir) == ["demo"], "two more taken out")
        for _ in range(3):
            await pilot.press("u")
        await until(pilot, lambda: len(lines(app)) == 4, "all put back")
        assert in_file(runs_dir) == ["demo", "basenet", "vgg-custom", "ablation/step-05-dropout-head"]
        await until(pilot, lambda: "Put back: basenet" in said(app), "what was done")
    assert len(started) > 3, "a runner that ended meanwhile must be there again"


async def test_entries_are_moved_and_the_cursor_with_them(runs_dir: Path) -> None:
    fill(runs_dir)
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 4)
        await pilot.press("K", "J", "J")
        assert names(app)[:3] == ["basenet", "vgg-custom", "demo"]
        await pilot.press("shift+down", "shift+down", "shift+up", "shift+up", "shift+up")
        wanted = ["demo", "basenet", "vgg-custom", "ablation/step-05-dropout-head"]
        assert [name.rstrip("…") in full for name, full in zip(names(app), wanted, strict=True)] == [True] * 4
        await until(pilot, lambda: in_file(runs_dir) == wanted, "the file")


async def test_an_entry_that_was_started_meanwhile_is_said(runs_dir: Path) -> None:
    first, *_ = fill(runs_dir)
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 4)
        queue_file.remove(runs_dir, first.id)  # as the runner does
        await pilot.press("d")
        await until(pilot, lambda: "was started or taken out just before" in said(app), "what became of it")
        assert len(queue_file.entries(runs_dir)) == 3


async def test_it_does_not_wait_for_somebody_who_edits(runs_dir: Path) -> None:
    fill(runs_dir)
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 4)
        with queue_file.editing(runs_dir):
            await pilot.press("d", "J")
            assert names(app)[:2] == ["vgg-custom", "basenet"]
            assert len(queue_file.entries(runs_dir)) == 4
        await until(pilot, lambda: in_file(runs_dir)[:2] == ["vgg-custom", "basenet"], "the edits")


async def test_edits_by_others_are_seen(runs_dir: Path) -> None:
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 0)
        queue_file.add(runs_dir, ["demo"])
        await until(pilot, lambda: names(app) == ["demo"], "the new entry")
        queue_file.clear(runs_dir)
        await until(pilot, lambda: "Nothing waits" in said(app, "#nothing"), "the empty queue")


async def test_without_a_runner_r_starts_one(runs_dir: Path, started: list[Path]) -> None:
    fill(runs_dir)
    started.clear()
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 4)
        assert "no runner is alive" in said(app, "#top")
        assert "Press r to start one" in said(app)
        await pilot.press("r")
        await until(pilot, lambda: "The runner is started" in said(app), "the answer")
    assert started == [runs_dir]


async def test_enter_watches_the_run_that_the_entry_waits_for(runs_dir: Path) -> None:
    fill(runs_dir)
    app = an_app(runs_dir)
    other = SampleRun(runs_dir, "demo-77aa", start=NOW - 5, device="cuda:1").live().begin().prepare()
    with training(runs_dir, epochs_done=1) as run, other:
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(pilot, 4)
            await until(pilot, lambda: "waits for demo-77aa" in lines(app)[2], "both runs")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
            monitor = app.screen
            assert isinstance(monitor, Monitor)
            assert monitor.run_folder.id == run.folder.id
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, QueueScreen), "the queue again")


async def test_a_damaged_file_is_said(runs_dir: Path) -> None:
    runs_dir.mkdir()
    (runs_dir / "queue.json").write_text("[{]")
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 0)
        assert "is damaged" in said(app, "#nothing")
        await pilot.press("d", "u", "J")
        (runs_dir / "queue.json").unlink()
        await until(pilot, lambda: "Nothing waits" in said(app, "#nothing"), "that it is mended")


async def test_what_is_in_the_file_cannot_draw(runs_dir: Path) -> None:
    runs_dir.mkdir()
    hostile = queue_file.Entry(id="0" * 12, preset_name="[red]a\x1b[2Jb\n", overrides=("x=\x07", "[/b]"))
    (runs_dir / "queue.json").write_bytes(msgspec.json.encode([hostile]))
    (runs_dir / "queue.log").write_text("[bold]gone\x1b[31m\n")
    app = an_app(runs_dir)
    async with app.run_test(size=(120, 24)) as pilot:
        await opened(pilot, 1)
        assert r"[red]a\x1b[2Jb\n" in lines(app)[0]
        assert r"x=\x07 [/b]" in lines(app)[0]
        await pilot.press("d")
        await until(pilot, lambda: "Taken out" in said(app), "what was done")
        assert r"queue.log: [bold]gone\x1b[31m" in said(app)


async def test_settings_that_differ_are_to_be_seen_at_80_columns(runs_dir: Path) -> None:
    for lr in (0.1, 0.01):
        shared = ("train.epochs_scale=0.25", "data.image_size=128", "optimizer.weight_decay=0.0005")
        options = RunOptions(overrides=(*shared, f"optimizer.lr={lr}"), seeds=(0, 1))
        queue_file.add(runs_dir, ["networks/resnet18"], options)
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 4)
        assert [" ".join(line.split()[1:6]) for line in lines(app)] == [
            "networks/resnet18 lr 0.1 seed 0", "networks/resnet18 lr 0.1 seed 1",
            "networks/resnet18 lr 0.01 seed 0", "networks/resnet18 lr 0.01 seed 1",
        ]  # fmt: skip
        assert "optimizer.weight_decay=0.0005 optimizer.lr=0.1 seed 0" in said(app)


async def test_the_palette_offers_what_can_be_done(runs_dir: Path) -> None:
    fill(runs_dir)
    app = an_app(runs_dir)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 4)
        titles = [command.title for command in app.get_system_commands(app.screen)]
    assert {"Take out of the queue", "Move up", "Move down", "Let the queue be worked off again"} <= set(titles)
    assert not any(title.startswith("Put back") for title in titles)


def test_every_key_has_an_id() -> None:
    assert all(getattr(binding, "id", "").startswith("queue.") for binding in QueueScreen.BINDINGS)


SIZES = [(80, 24), (120, 40), (160, 45)]


@pytest.mark.parametrize("size", SIZES)
async def test_lines_fit_the_screen(runs_dir: Path, size: tuple[int, int]) -> None:
    long_name = "ablation-step-05-dropout-head-a3f2"
    fill(runs_dir)
    changes = ("train.epochs=3", "optimizer.lr=0.0123456789", "train.batch_size=64")
    queue_file.add(runs_dir, ["demo"], RunOptions(overrides=changes))
    app = an_app(runs_dir)
    with SampleRun(runs_dir, long_name, start=NOW - 5).live().begin().prepare():
        async with app.run_test(size=size) as pilot:
            await opened(pilot, 5)
            await until(pilot, lambda: "waits for" in lines(app)[0], "the run")
            assert max(map(len, lines(app))) <= size[0] - 2


@pytest.mark.parametrize("size", SIZES)
def test_picture_of_it_empty(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await opened(pilot, 0)

    assert snap_compare(an_app(runs_dir, display), terminal_size=size, run_before=ready)


@pytest.mark.parametrize("size", SIZES)
def test_picture_of_it_filled(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, CifartuiApp)
        await opened(pilot, 4)
        await until(pilot, lambda: "waits for" in lines(app)[0] and "demo-77aa" in said(app, "#now"), "the runs")
        await pilot.press("j", "d")
        await until(pilot, lambda: "Taken out" in said(app), "what was done")
        await pilot.press("j")
        await until(pilot, lambda: "ablation/step-05-dropout-head" in said(app) or size[0] > 80, "the line in full")

    fill(runs_dir)
    (runs_dir / "queue.log").write_text("2026-09-21 14:02:11 started basenet as 20260921T140211-basenet-a3f2\n")
    demo = SampleRun(
        runs_dir, "demo-77aa", start=NOW - 5, device="cuda:1", preset_name="demo", preset=preset("Demo", 6)
    )
    demo.live().begin().prepare()
    with training(runs_dir), runner(runs_dir), demo:
        assert snap_compare(an_app(runs_dir, display), terminal_size=size, run_before=ready)
