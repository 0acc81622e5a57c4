"""The confusion matrix, whose cells open their images, and the scores: from Predictions, by one key each."""

import subprocess
import sys

import msgspec
import pytest
from rich.text import Text
from textual.widgets import Static

from engine.runs import predictions
from tests.ui.conftest import until
from tests.ui.sample_run import SampleRun
from tests.ui.test_predictions import app_on, said, shown, sorting, store
from tui.screens.predictions import PredictionsScreen
from tui.screens.scores import MatrixScreen, ScoresScreen
from tui.screens.top_classes import TopClasses
from tui.widgets.basic import ChangedStatic
from tui.widgets.key_bar import KeyBar
from tui.widgets.matrix_view import MatrixView


def store_many(run: SampleRun, num_classes: int = 40) -> None:
    """Store predictions of many classes, every image of a class taken for the next one but every third."""
    store(run, 3 * num_classes)
    found = predictions.read(run.folder, "test")
    assert found is not None
    true = tuple(row // 3 for row in range(3 * num_classes))
    predicted = tuple(label if row % 3 == 0 else (label + 1) % num_classes for row, label in enumerate(true))
    changed = msgspec.structs.replace(
        found, class_names=tuple(f"class {number}" for number in range(num_classes)), true=true, predicted=predicted
    )
    text, _ = predictions.paths(run.folder, "test")
    text.write_bytes(msgspec.json.encode(changed))


async def test_a_cell_of_the_matrix_opens_its_images(run: SampleRun) -> None:
    store(run)  # all 30 images are predicted as cat; ten each are cat, dog, oak
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, MatrixScreen), "the matrix")
        cell = app.screen.query_one("#cell", ChangedStatic)
        await until(pilot, lambda: "mistake 1 of 2" in cell.text.plain, "the most frequent mistake")
        assert cell.text.plain.startswith("dog taken for cat: 10 of 10 (100.0 %)")
        await pilot.press("n")
        await until(pilot, lambda: cell.text.plain.startswith("oak taken for cat"), "the next mistake")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen, "the images")
        assert sorting(screen) == "oak taken for cat, the most confident first: 1 to 8 of 10"
        assert screen.rows == list(range(29, 0, -3))
        await pilot.press("escape")
        assert sorting(screen).startswith("wrong ones")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, PredictionsScreen), "the run")


async def test_the_cursor_of_the_matrix_stays_within_it_and_an_empty_cell_opens_nothing(run: SampleRun) -> None:
    store(run)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, MatrixScreen), "the matrix")
        view = app.screen.query_one(MatrixView)
        await until(pilot, lambda: view.matrix is not None, "the counts")
        await pilot.press("up", "up", "left", "left", "k", "h")
        assert (view.row, view.column) == (0, 0)
        await pilot.press("down", "down", "down", "right", "right", "right", "right")
        assert (view.row, view.column) == (2, 2)
        await pilot.press("enter")
        assert isinstance(app.screen, MatrixScreen)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "the images")
        assert sorting(screen).startswith("wrong ones")


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 45)])
async def test_the_cell_under_the_cursor_is_in_view_whatever_the_size(run: SampleRun, size: tuple[int, int]) -> None:
    store_many(run)
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, MatrixScreen), "the matrix")
        view = app.screen.query_one(MatrixView)
        await until(pilot, lambda: view.matrix is not None, "the counts")
        for row, column in ((39, 39), (0, 39), (20, 3), (0, 0)):
            view.go_to(row, column)
            lines = [view.render_line(y) for y in range(view.size.height)]
            drawn = [segment for line in lines for segment in line if segment.style and segment.style.bold]
            counts = [segment.text.strip() for segment in drawn if segment.style and segment.style.bgcolor]
            assert view.matrix is not None
            assert f"{view.matrix.counts.get((row, column), 0) or '·'}" in counts
            assert any(view.matrix.names[row] in line.text for line in lines)


async def test_images_are_in_the_order_that_is_asked_for(run: SampleRun) -> None:
    store(run)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("s")
        assert sorting(screen) == "wrong ones, the least confident first: 1 to 8 of 20"
        assert screen.rows[:2] == [1, 2]
        await pilot.press("s")
        assert sorting(screen).startswith("wrong ones, as they are in the data")
        await pilot.press("s")
        assert screen.rows[0] == 29


async def test_the_scores_are_one_key_away(run: SampleRun) -> None:
    store_many(run)
    app = app_on(run)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await shown(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, ScoresScreen), "the scores")
        table = app.screen.query_one("#table", Static)
        await until(pilot, lambda: "calibration error" in said(table), "the scores")
        text = said(table)
        assert "33.33 % (95 % interval 25.53 to 42.17 %)" in text
        assert text.count("33.3 %") >= 40
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "the images")


async def test_hidden_labels_offer_neither_matrix_nor_scores(run: SampleRun) -> None:
    store(run, hidden=True)
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("x", "t")
        assert app.screen is screen
        assert (screen.check_action("matrix", ()), screen.check_action("scores", ())) == (False, False)
        assert screen.check_action("order", ())


def test_neither_torch_nor_numpy_comes_with_the_screens() -> None:
    code = (
        "import sys, tui.screens.predictions, tui.screens.scores\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'torch', 'torchvision', 'numpy', 'PIL'}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def plain(widget: Static) -> str:
    assert isinstance(widget.content, Text)
    return widget.content.plain


async def test_an_image_with_its_five_most_probable_classes(run: SampleRun) -> None:
    store_many(run)
    found = predictions.read(run.folder, "test")
    assert found is not None
    tops = tuple(tuple((label + rank) % 40 for rank in (0, 1, 2, 3, 4)) for label in found.predicted)
    ranked = msgspec.structs.replace(
        found, top=tops, top_probability=((0.5, 0.2, 0.1, 0.1, 0.05),) * len(tops), names=tuple(map(str, range(120)))
    )
    predictions.paths(run.folder, "test")[0].write_bytes(msgspec.json.encode(ranked))
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("5")
        await until(pilot, lambda: isinstance(app.screen, TopClasses), "the image")
        top, classes = app.screen.query_one("#top", ChangedStatic), app.screen.query_one("#classes", Static)
        await until(pilot, lambda: "image 1 of 80" in top.text.plain, "the first image")
        row = screen.rows[0]
        assert found.true is not None
        lines = plain(classes).splitlines()
        assert [line.rstrip() for line in lines[:9:2]] == [f"class {index}" for index in tops[row]]
        assert [line.split()[-2] for line in lines[1:10:2]] == ["50.0", "20.0", "10.0", "10.0", "5.0"]
        assert "others                     5.0 %" in plain(classes)
        assert f"Its class is class {found.true[row]}, which is among the others." in plain(classes)
        await pilot.press("left")
        assert "image 1 of 80" in top.text.plain
        await pilot.press("right", "j")
        await until(pilot, lambda: "image 3 of 80" in top.text.plain, "the third image")
        assert app.screen.query_one("#sorting", ChangedStatic).text.plain == f"{screen.rows[2]}"
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "all images")
        await pilot.press("r", "5")
        await until(pilot, lambda: isinstance(app.screen, TopClasses), "the image")
        await until(pilot, lambda: "true class" in plain(app.screen.query_one("#classes", Static)), "its class")


async def test_top_5_is_not_offered_where_a_version_before_kept_one_class(run: SampleRun) -> None:
    store(run)
    app = app_on(run)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await shown(pilot)
        await pilot.pause()
        assert "5 top-5" not in screen.query_one(KeyBar).text.plain
        await pilot.press("5")
        assert app.screen is screen
