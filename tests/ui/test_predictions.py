"""The Predictions screen: filters, classes, pages, hidden labels, and making what is not there."""

import threading
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engine.runs import predictions
from engine.runs.predictions import Predictions
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tests.ui.conftest import environment, until
from tests.ui.sample_run import SampleRun
from tui.app import CifartuiApp
from tui.data import torch_process
from tui.screens.predictions import PredictionsScreen
from tui.widgets.basic import ChangedStatic
from tui.widgets.gallery import Gallery, resize
from tui.widgets.monitor_panes import RunHeader

NAMES = ("cat", "dog", "oak")
SIDE = 4


def store(
    run: SampleRun,
    num_images: int = 30,
    *,
    hidden: bool = False,
    global_step: int = 10_000,
    data: str | None = None,
    split: predictions.Split = "test",
) -> None:
    """Store predictions in which every third image is right."""
    true = tuple(row % 3 for row in range(num_images))
    found = Predictions(
        run=run.folder.id, split=split, checkpoint="best", epoch=3, global_step=global_step, class_names=NAMES,
        image_size=SIDE, true=None if hidden else true, predicted=(0,) * num_images,
        confidence=tuple(row / num_images for row in range(num_images)), data=data,
    )  # fmt: skip
    pixels = b"".join(bytes([row, 255 - row, 9]) * SIDE**2 for row in range(num_images))
    predictions.write(run.folder, found, pixels)


def app_on(run: SampleRun) -> CifartuiApp:
    return CifartuiApp(run.folder.path.parent, attach=run.folder, environment=environment())


async def opened(pilot: Pilot[Any]) -> PredictionsScreen:
    await until(pilot, lambda: "best" in getattr(pilot.app.screen, "state", pilot.app.screen).checkpoints, "the run")  # type: ignore[union-attr]
    await pilot.press("i")
    await until(pilot, lambda: isinstance(pilot.app.screen, PredictionsScreen), "the screen")
    screen = pilot.app.screen
    assert isinstance(screen, PredictionsScreen)
    return screen


async def shown(pilot: Pilot[Any]) -> PredictionsScreen:
    """Open the screen and wait until it has read its predictions."""
    screen = await opened(pilot)
    await until(pilot, lambda: screen.found is not None, "the predictions")
    return screen


def sorting(screen: PredictionsScreen) -> str:
    return screen.query_one("#sorting", ChangedStatic).text.plain


def said(widget: Static) -> str:
    console = Console(width=500)  # wider than any sentence: the folder of a test may have a long path
    with console.capture() as capture:
        console.print(widget.content)
    return capture.get()


async def test_wrong_right_all_and_classes(run: SampleRun) -> None:
    store(run)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        assert sorting(screen) == "wrong ones, the most confident first: 1 to 8 of 20"
        assert screen.rows[0] == 29
        await pilot.press("r")
        assert sorting(screen).endswith("of 10")
        assert all(row % 3 == 0 for row in screen.rows)
        await pilot.press("a", "c")
        screen.query_one("#class", Input).value = "oak"
        await until(pilot, lambda: "class oak" in sorting(screen), "the class")
        assert {row % 3 for row in screen.rows} == {2}
        await pilot.press("escape")
        await until(pilot, lambda: sorting(screen).endswith("of 30"), "all of them again")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, PredictionsScreen), "the run again")


async def test_pages_turn_and_stop_at_the_ends(run: SampleRun) -> None:
    store(run)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("left")
        assert ": 1 to 8 of 20" in sorting(screen)
        await pilot.press("right", "pagedown")
        assert ": 17 to 20 of 20" in sorting(screen)
        await pilot.press("right")
        assert ": 17 to 20 of 20" in sorting(screen)


async def test_images_are_drawn_with_their_own_colours(run: SampleRun) -> None:
    store(run)
    app = app_on(run)
    async with app.run_test(size=(160, 45)) as pilot:
        screen = await shown(pilot)
        await pilot.pause()
        gallery = screen.query_one(Gallery)
        first = next(segment for segment in gallery.render_line(0) if segment.text == "▀")
        assert first.style is not None
        assert (first.style.color.triplet, first.style.bgcolor.triplet) == ((29, 226, 9), (29, 226, 9))  # type: ignore[union-attr]
        assert "worst classes" in said(screen.query_one("#scores", Static))


async def test_hidden_labels_are_said(run: SampleRun) -> None:
    store(run, hidden=True)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: "labels of these images are hidden" in sorting(screen), "why there are no labels")
        assert sorting(screen).endswith("of 30")


async def test_predictions_of_other_data_than_the_runs_are_not_shown(run: SampleRun) -> None:
    store(run, data="/other/photos")
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: "Enter measures it" in said(screen.query_one("#making", Static)), "the offer")
        assert screen.found is None


async def test_what_is_not_there_is_offered_made_and_shown(run: SampleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(module: str, arguments: list[str], **_how: Any) -> bytes:
        asked.append([module, *arguments])
        store(run)
        return b""

    monkeypatch.setattr(torch_process, "run_module", ask)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        making = screen.query_one("#making", Static)
        await until(pilot, lambda: "Enter measures it" in said(making), "the offer")
        assert "still trains" not in said(making)
        await pilot.press("enter")
        await until(pilot, lambda: screen.found is not None, "the predictions")
    assert asked == [["engine.training.evaluate_checkpoint", str(run.folder.path), "--split", "test"]]


async def test_without_a_test_part_it_is_the_validation_images(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    with SampleRun(runs_dir).begin().prepare(num_test=0) as made:
        for epoch in (1, 2, 3):
            made.train_epoch(epoch)
        made.finish(test_top1=None)

    def ask(module: str, arguments: list[str], **_how: Any) -> bytes:
        asked.append(arguments)
        store(made, split="val")
        return b"{}"

    monkeypatch.setattr(torch_process, "run_module", ask)
    app = app_on(made)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "no test part" in said(pilot.app.screen.query_one(RunHeader)), "the header")
        screen = await opened(pilot)
        making = screen.query_one("#making", Static)
        await until(pilot, lambda: "one pass over the validation images" in said(making), "the offer")
        await pilot.press("enter")
        await until(pilot, lambda: screen.found is not None, "the predictions")
        assert "validation images   there is no test part" in screen.query_one("#top", ChangedStatic).text.plain
    assert asked == [[str(made.folder.path), "--split", "val"]]


async def test_a_failure_is_said_in_its_own_words(run: SampleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(module: str, arguments: list[str], **_how: Any) -> bytes:
        raise CifartuiError("CIFAR-100 is not there.")

    monkeypatch.setattr(torch_process, "run_module", ask)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        making = screen.query_one("#making", Static)
        await until(pilot, lambda: "Enter measures it" in said(making), "the offer")
        await pilot.press("enter")
        await until(pilot, lambda: "CIFAR-100 is not there." in said(making), "why")
        assert "Enter measures it" in said(making)


async def test_enter_may_come_before_the_first_look_is_over(run: SampleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    may_read, may_end = threading.Event(), threading.Event()
    read, has_read = predictions.read, threading.Event()

    def late(run_folder: RunDir, split: Literal["test"]) -> Predictions | None:
        assert may_read.wait(20)
        found = read(run_folder, split)
        has_read.set()
        return found

    def ask(module: str, arguments: list[str], **_how: Any) -> bytes:
        assert may_end.wait(20)
        store(run)
        return b""

    monkeypatch.setattr(predictions, "read", late)
    monkeypatch.setattr(torch_process, "run_module", ask)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("enter")
        may_read.set()
        await until(pilot, has_read.is_set, "the first look, which finds nothing")
        assert not screen.check_action("make", ()), "the measurement is still under way"
        may_end.set()
        await until(pilot, lambda: screen.found is not None, "the predictions")
        assert screen.check_action("make", ()) is False


async def test_leaving_ends_the_measurement(run: SampleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def ask(module: str, arguments: list[str], *, stop: threading.Event, **_how: Any) -> bytes:
        assert stop.wait(20)
        ended.set()
        raise CifartuiError("The question was withdrawn.")

    monkeypatch.setattr(torch_process, "run_module", ask)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("enter", "escape")
        await until(pilot, ended.is_set, "the end of the measurement")


async def test_predictions_without_their_images_can_be_measured_again(run: SampleRun) -> None:
    store(run)
    predictions.paths(run.folder, "test")[1].write_bytes(b"")
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        making = screen.query_one("#making", Static)
        await until(pilot, lambda: "measure the weights again" in said(making), "why not")
        assert screen.check_action("make", ())


async def test_predictions_of_older_weights_say_so(run: SampleRun) -> None:
    store(run, global_step=1)
    app = app_on(run)
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot)
        top = screen.query_one("#top", ChangedStatic)
        await until(pilot, lambda: "better weights now: Enter measures" in top.text.plain, "that they are old")


def test_resizing_takes_means_or_the_nearest() -> None:
    image = bytes([0, 0, 0, 100, 100, 100, 200, 200, 200, 100, 100, 100])
    assert resize(image, 2, 1) == bytes([100, 100, 100])
    assert resize(image, 2, 4)[:12] == bytes([0, 0, 0, 0, 0, 0, 100, 100, 100, 100, 100, 100])
    assert resize(image, 2, 2) == image
