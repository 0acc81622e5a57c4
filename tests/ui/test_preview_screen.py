"""The Preview screen: from Home and from the Monitor, its pages, and what it says where there is nothing to show."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engine.runs.preview import Preview, Question, Row, Tile
from presets.errors import CifartuiError
from tests.ui.conftest import environment, until
from tests.ui.sample_run import SampleRun
from tests.ui.test_predictions import said
from tui.app import CifartuiApp
from tui.screens import preview as screens
from tui.screens.preview import PreviewScreen, pictures
from tui.screens.start_dialog import StartPanel
from tui.widgets.basic import ChangedStatic
from tui.widgets.gallery import Gallery

SIDE = 4


def tile(caption: str) -> Tile:
    return Tile(pixels=bytes(3 * SIDE * SIDE), side=SIDE, caption=caption)


FOUND = Preview(
    device="cpu",
    rows=tuple(
        Row(
            number=number, label="cat", plain=tile("cat"),
            epochs=(tile("cat 70 %, dog 30 %"), None if number == 1 else tile("cat"), tile("cat")),
        )
        for number in range(8)
    ),
)  # fmt: skip


class Child:
    """Stands for the process; answers when it is let go."""

    def __init__(self, problem: str = "") -> None:
        self.questions: list[Question] = []
        self.go, self.problem = threading.Event(), problem

    def __call__(self, module: str, arguments: Sequence[str] = (), *, stdin: bytes, stop: threading.Event) -> bytes:
        assert (module, tuple(arguments)) == ("engine.training.preview", ())
        self.questions.append(msgspec.json.decode(stdin, type=Question))
        while not self.go.wait(0.01):
            if stop.is_set():
                raise CifartuiError("The question was withdrawn.")
        if self.problem:
            raise CifartuiError(self.problem)
        return msgspec.json.encode(FOUND)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    child = Child()
    monkeypatch.setattr(screens, "run_module", child)
    return child


async def opened(pilot: Pilot[Any], key: str) -> PreviewScreen:
    await pilot.press(key)
    await until(pilot, lambda: isinstance(pilot.app.screen, PreviewScreen), "the screen")
    screen = pilot.app.screen
    assert isinstance(screen, PreviewScreen)
    return screen


async def test_home_shows_the_highlighted_preset_in_pages_of_whole_images(runs_dir: Path, child: Child) -> None:
    async with CifartuiApp(runs_dir, environment=environment()).run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "i")
        await until(pilot, lambda: child.questions, "the question")
        assert child.questions[0].preset.title == "Demo"
        assert (child.questions[0].seed, child.questions[0].device) == (0, "auto")
        assert "Loading PyTorch takes a few seconds. Esc leaves." in said(screen.query_one("#making", Static))
        child.go.set()
        await until(pilot, lambda: screen.found is not None, "the images")
        gallery, sorting = screen.query_one("#images", Gallery), screen.query_one("#sorting", ChangedStatic)
        assert gallery.place(3, gallery.shown_side, 4)[1] == 0, "all tiles of an image stand in one row"
        assert (gallery.shown_side, gallery.capacity) == (28, 8)
        await until(pilot, lambda: sorting.text.plain == "seed 0, on cpu: images 1 to 2 of 8", "the first page")
        await pilot.press("right")
        await until(pilot, lambda: ": images 3 to 4 of 8" in sorting.text.plain, "the second page")
        await pilot.press("left", "left")
        await until(pilot, lambda: ": images 1 to 2" in sorting.text.plain, "the first page again")
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, PreviewScreen)


async def test_an_archive_is_unpacked_first_which_is_shown_and_what_is_wrong_with_the_data_is_said(
    runs_dir: Path, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, left = threading.Event(), list[bool]()

    def unpack_first(_question: Question, on_bytes: Callable[[int, int], None]) -> None:
        on_bytes(3_000_000, 9_000_000)
        while not go_on.wait(0.01):
            try:
                on_bytes(4_000_000, 9_000_000)
            except Exception:
                left.append(True)
                raise

    monkeypatch.setattr(screens, "unpack_first", unpack_first)
    monkeypatch.setattr(screens, "_TELL_EVERY_S", 0.0)
    async with CifartuiApp(runs_dir, environment=environment()).run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "i")
        making = screen.query_one("#making", Static)
        await until(pilot, lambda: "unpacking: 4.0 MB of 9.0 MB…" in said(making), "the progress")
        assert child.questions == []
        await pilot.press("escape")
        await until(pilot, lambda: left, "the end of the unpacking")
        go_on.set()
        screen = await opened(pilot, "i")
        await until(pilot, lambda: child.questions, "the question")
        await until(pilot, lambda: "Reading the data" in said(screen.query_one("#making", Static)), "the words")
        monkeypatch.setitem(
            globals(), "FOUND", msgspec.structs.replace(FOUND, notices=("a", "2 images cannot be read.", "b", "c"))
        )
        child.go.set()
        sorting = screen.query_one("#sorting", ChangedStatic)
        rows = ["2 images cannot be read.", "a", "… and 2 more notices, which cifartui preview prints"]
        await until(pilot, lambda: sorting.text.plain.splitlines()[1:] == rows, "the notices")
        await until(pilot, lambda: sorting.size.height == 4, "rows of their own")


async def test_the_monitor_asks_for_the_images_of_its_run(runs_dir: Path, child: Child) -> None:
    with SampleRun(runs_dir, seed=7).live().begin().prepare() as run:
        app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: getattr(app.screen, "state", None) and app.screen.state.started, "the run")  # type: ignore[attr-defined]
            await opened(pilot, "I")
            await until(pilot, lambda: child.questions, "the question")
            asked = child.questions[0]
            assert (asked.preset, asked.seed, asked.device) == (run.info.preset, 7, "cpu")
            await pilot.press("escape")  # the process is ended: nobody lets it go


async def test_the_start_panel_shows_the_images_of_what_is_typed_while_a_field_has_the_focus(
    runs_dir: Path, child: Child
) -> None:
    started: list[object] = []
    ways = environment(start=lambda *arguments: started.append(arguments))
    async with CifartuiApp(runs_dir, environment=ways).run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, StartPanel), "the panel")
        panel = pilot.app.screen
        assert isinstance(panel, StartPanel)
        assert "Ctrl+g training images" in "\n".join(str(each.content) for each in panel.query(Static))
        panel.query_one("#batch", Input).value = "x"
        await pilot.press("ctrl+g")
        assert pilot.app.screen is panel  # there is nothing to show of what is wrong
        assert pilot.app.focused is panel.query_one("#batch")
        panel.query_one("#batch", Input).value = "8"
        panel.query_one("#seed", Input).value = "5"
        await opened(pilot, "ctrl+g")
        await until(pilot, lambda: child.questions, "the question")
        asked = child.questions[0]
        assert (asked.preset.train.batch_size, asked.seed, asked.device) == (8, 5, "auto")
        await pilot.press("escape")
        assert pilot.app.screen is panel
        assert panel.query_one("#batch", Input).value == "8"
    assert started == []


async def test_of_several_presets_no_images_are_offered(runs_dir: Path, child: Child) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(StartPanel(["basenet", "demo"], lambda: None, purpose="queue"))
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the panel")
        await pilot.press("ctrl+g")
        assert isinstance(app.screen, StartPanel)
        assert "training images" not in "\n".join(str(each.content) for each in app.screen.query(Static))
    assert child.questions == []


async def test_a_failure_is_said_in_its_sentence(runs_dir: Path, child: Child) -> None:
    child.problem = "CIFAR-100 was not found."
    child.go.set()
    async with CifartuiApp(runs_dir, environment=environment()).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "i")
        making = screen.query_one("#making", Static)
        await until(pilot, lambda: child.problem in said(making), "the sentence")


@pytest.mark.parametrize(("size", "side"), [((80, 24), 18), ((160, 45), 38), ((60, 24), 12), ((200, 20), 30)])
async def test_tiles_of_an_image_stand_in_one_row_in_any_window(
    runs_dir: Path, child: Child, size: tuple[int, int], side: int
) -> None:
    child.go.set()
    async with CifartuiApp(runs_dir, environment=environment()).run_test(size=size) as pilot:
        pilot.app.push_screen(PreviewScreen("Demo", Question(preset=SampleRun(runs_dir).info.preset)))
        await until(pilot, lambda: getattr(pilot.app.screen, "found", None) is not None, "the images")
        gallery = pilot.app.screen.query_one("#images", Gallery)
        await until(pilot, lambda: gallery.size.height > 5, "the layout")
        assert gallery.shown_side == side
        assert gallery.capacity % 4 == 0 or size[0] < 80


def test_an_image_has_its_epochs_behind_it_and_one_that_is_left_out_of_an_epoch_keeps_its_place() -> None:
    captions = [tuple(text for text, _ in picture.captions) for picture in pictures(FOUND)]
    assert [where for _, where in captions[:8]] == ["validation", "epoch 1", "epoch 2", "epoch 3"] * 2
    assert captions[6] == ("not trained on", "epoch 2")
    assert pictures(FOUND)[1].captions[0][0] == "cat 70 %, dog 30 %"
