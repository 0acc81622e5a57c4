"""Images of one's own on the Predictions screen: opened with a key, predicted in a helper process, shown in order."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from engine.runs.image_predictions import Answer, Guess, Loaded, Noticed, Predicted, Request, Row
from presets.errors import CifartuiError
from tests.ui.conftest import until
from tests.ui.sample_run import SampleRun
from tests.ui.test_predictions import app_on, opened, said, sorting, store
from tui.data import image_predictor
from tui.screens.open_folder import Folders
from tui.screens.own_images import OpenImages, OwnImages
from tui.screens.predictions import PredictionsScreen
from tui.widgets.basic import ChangedStatic

LOADED = Loaded(
    run="r", checkpoint="best", epoch=3, is_average=False, device="cpu", precision="fp32", class_names=("cat", "dog"),
    image_size=4, side=4,
)  # fmt: skip
Ask = Callable[[Request, Sequence[str], threading.Event], Iterator[Answer]]


@pytest.fixture
def run(run: SampleRun) -> SampleRun:
    """The run of three epochs, with predictions of its test images."""
    store(run)
    return run


def predicted(number: int, known: int) -> Predicted:
    rows = (Row(f"mine/{number}.png", (Guess("cat", 0.75), Guess("dog", 0.25))), Row("mine/bad.png", problem="damaged"))
    return Predicted(rows=rows, done=2 * number + 2, known=known, is_all=True)


async def chosen(pilot: Any, path: Path) -> OwnImages:
    """Open the browser on the Predictions screen with `o`, and type a path."""
    screen = await opened(pilot)
    await until(pilot, lambda: screen.found is not None, "the predictions")
    await pilot.press("o")
    await until(pilot, lambda: isinstance(pilot.app.screen, OpenImages), "the browser")
    await until(pilot, lambda: bool(pilot.app.screen.query("#path")), "the field")
    await pilot.press("slash")
    pilot.app.screen.query_one("#path", Input).value = str(path)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, OwnImages), "the images")
    found = pilot.app.screen
    assert isinstance(found, OwnImages)
    return found


def title(screen: OwnImages) -> str:
    return screen.query_one("#top", ChangedStatic).text.plain


async def test_images_are_predicted_and_shown_as_they_come(
    run: SampleRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, asked = threading.Event(), []

    def ask(request: Request, named: Sequence[str], stop: threading.Event) -> Iterator[Answer]:
        asked.append((request.run, request.checkpoint, list(named)))
        assert request.pixels_fd is not None
        yield LOADED
        os.pwrite(request.pixels_fd, bytes((9, 200, 30)) * 16, 0)
        yield predicted(0, 4)
        assert may_end.wait(20)
        yield predicted(1, 4)

    monkeypatch.setattr(image_predictor, "answers", ask)
    app = app_on(run)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await chosen(pilot, tmp_path)
        await until(pilot, lambda: len(screen.rows) == 2, "the first batch")
        assert "Predicting: 2 of 4" in title(screen)
        assert "Esc ends that" in title(screen)
        first = screen._picture(0)
        assert first.pixels == bytes((9, 200, 30)) * 16
        assert [text for text, _ in first.captions] == ["0.png", "cat 75 %"]
        assert [text for text, _ in screen._picture(1).captions] == ["bad.png", "damaged"]
        may_end.set()
        await until(pilot, lambda: screen.is_over, "the end")
        assert "in order: 1 to 4 of 4, 2 without a prediction   best.pt (epoch 3) of run r" in sorting(screen)  # type: ignore[arg-type]
        assert "Predicting" not in title(screen)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, PredictionsScreen), "the predictions again")
    assert asked == [(str(run.folder.path.absolute()), "best", [str(tmp_path)])]


async def test_esc_ends_the_prediction(run: SampleRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def ask(request: Request, named: Sequence[str], stop: threading.Event) -> Iterator[Answer]:
        yield LOADED
        assert stop.wait(20)
        ended.set()
        raise CifartuiError("The question was withdrawn.")

    monkeypatch.setattr(image_predictor, "answers", ask)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await chosen(pilot, tmp_path)
        await until(pilot, lambda: "Predicting" in title(screen), "the network")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, OpenImages), "the browser again")
        await until(pilot, ended.is_set, "the end of the process")


@pytest.mark.parametrize(
    ("last", "text"),
    [
        (Noticed("There is no image in mine."), "There is no image in mine."),
        (CifartuiError("best.pt is damaged."), "best.pt"),
    ],
)
async def test_what_brings_no_image_is_explained(
    run: SampleRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: Any, text: str
) -> None:
    def ask(request: Request, named: Sequence[str], stop: threading.Event) -> Iterator[Answer]:
        yield LOADED
        if isinstance(last, CifartuiError):
            raise last
        yield last

    monkeypatch.setattr(image_predictor, "answers", ask)
    app = app_on(run)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await chosen(pilot, tmp_path)
        await until(pilot, lambda: screen.is_over, "the end")
        making = said(screen.query_one("#making", Static))
        assert text in making
        assert ("Esc goes back" in making) == isinstance(last, Noticed)


async def test_the_tree_shows_images_too(run: SampleRun, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "below").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "notes.txt", "set.zip", ".hidden.png"):
        (mine / name).touch()
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = OpenImages(run.folder, run.folder.read_info(), mine)
        await app.push_screen(screen)
        await pilot.pause()
        kept = {path.name for path in screen.query_one(Folders).filter_paths(sorted(mine.iterdir()))}
    assert kept == {"a.png", "b.JPG", "set.zip", "below"}
