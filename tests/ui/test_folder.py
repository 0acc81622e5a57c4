"""Opening a folder of images from Home: path, recent folders, tree; the summary; the presets for it. And pictures."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engine.runs.run_options import RunOptions
from engine.shared import data_locations
from engine.shared.data_path import NamedData
from engine.shared.image_archives import OnBytes
from engine.shared.image_scan import Unread
from presets import catalog
from presets.errors import CifartuiError
from tests import bird_files
from tests.ui.conftest import environment, until
from tests.ui.test_home import said
from tui.app import CifartuiApp
from tui.data.folder_summary import ClassCount, FolderSummary, SampledImages
from tui.display import Display
from tui.screens.folder import FolderScreen
from tui.screens.home import Home
from tui.screens.open_folder import Folders, OpenFolder
from tui.screens.start_dialog import StartPanel
from tui.terminal.keyboard import Burst
from tui.widgets.lists import Pickable

SUMMARY = FolderSummary(
    path="/data/birds", dataset="class-folders",
    layout="Class folders without parts: no validation part, no test part.",
    num_train=1204, num_val=131, is_val_drawn=True,
    classes=tuple(ClassCount(f"species {number:02}", 60 - number, 6, 0) for number in range(25)),
    imbalance=1.8,
    images=SampledImages(
        looked_at=400, smallest=(320, 213), median=(1024, 768), largest=(4032, 3024), modes={"RGB": 391, "L": 9}
    ),
    unread=(Unread("species 03", ".heic: install pillow-heif", 20, "IMG_0001.heic"),),
    split="1,204 to train on; 131 to validate with, a tenth of the training part by the hash of each file's name; "
    "no test part, so a run is judged by the validation images.",
    preset="photos/finetune",
    why="1,204 training images, about 48 a class: enough to fine-tune all of a pretrained network",
)  # fmt: skip


def no_folders() -> tuple[str, ...]:
    return ()


def opening(**ways: Any) -> Any:
    """An environment with the shipped presets, and no recent folders."""
    defaults = {
        "presets": catalog.list_presets, "loader": catalog.loader, "recent_folders": no_folders,
        "remember_folder": lambda folder: None, "data_at": lambda path, *_: NamedData("class-folders", path),
    }  # fmt: skip
    return environment(**{**defaults, **ways})


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes in a folder of the current folder."""
    for name in ("cat", "dog"):
        for number in range(20):
            bird_files.save(tmp_path / "work" / "photos" / name / f"{number}.png", (0, 0, 0))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work" / "photos"


async def browser(pilot: Pilot[Any]) -> OpenFolder:
    await pilot.press("o")
    await until(pilot, lambda: isinstance(pilot.app.screen, OpenFolder), "the browser")
    screen = pilot.app.screen
    assert isinstance(screen, OpenFolder)
    return screen


async def test_from_the_tree_to_the_start(runs_dir: Path, photos: Path) -> None:
    started: list[Any] = []
    remembered: list[str] = []

    def start(folder: Path, name: str, options: RunOptions) -> object:
        started.append((name, options.overrides))
        raise CifartuiError("that is all.")

    app = CifartuiApp(runs_dir, environment=opening(start=start, remember_folder=remembered.append))
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await browser(pilot)
        tree = screen.query_one(Folders)
        await until(pilot, lambda: len(tree.root.children) == 1, "the tree")
        await pilot.press("j", "right")
        await until(pilot, lambda: len(tree.root.children[0].children) == 2, "what is in photos")
        await pilot.press("enter")
        await until(pilot, lambda: "Class folders without parts" in rendered(app), "the summary")
        assert isinstance(app.screen, FolderScreen)
        assert "classes" in rendered(app)
        assert keys(app) == {"escape", "pagedown", "pageup"}, "both classes are shown"
        choices = app.screen.query_one("#choices", Pickable)
        assert choices.options[0].id == "photos/frozen"
        assert {option.id for option in choices.options} >= {"photos/frozen", "photos/finetune", "photos/scratch"}
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, StartPanel), "the dialog")
        assert app.screen.query_one("#data", Input).value == str(photos)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, FolderScreen), "the summary again")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the dialog")
        await pilot.press("enter")
        await until(pilot, lambda: started, "the start")
        await until(pilot, lambda: isinstance(app.screen, Home), "Home")
    assert started == [(choices.options[1].id, NamedData("class-folders", str(photos)).overrides)]
    assert remembered == [str(photos)]


async def test_of_a_folder_too_small_for_a_tenth_the_panel_is_filled_in_so_that_it_starts(
    runs_dir: Path, photos: Path
) -> None:
    for image in photos.glob("*/*.png"):
        if image.stem not in {"0", "1"}:  # of these a tenth, by their names, is none
            image.unlink()
    ways = opening(recent_folders=lambda: (str(photos),), locate=data_locations.locate)
    app = CifartuiApp(runs_dir, environment=ways)
    async with app.run_test(size=(80, 24)) as pilot:
        await browser(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, FolderScreen) and app.screen.summary, "the summary")
        shown = " ".join(rendered(app).split())
        assert "none to validate with" in shown
        assert "set data.validation=0.3, add images, or put the class folders into train/, and some into val/." in shown
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the dialog")
        changes = app.screen.query_one("#changes", Input)
        assert changes.value == "data.validation=0.3"
        changes.value = ""
        why_not = "set data.validation=0.3, add images"
        await until(pilot, lambda: why_not in " ".join(said(app, "#changes-error").split()), "why not")


def keys(app: CifartuiApp) -> set[str]:
    """Return the keys of the screen of a folder that can be used now."""
    bindings = (each for each in app.screen.active_bindings.values() if each.binding.id and each.enabled)
    return {each.binding.key for each in bindings if each.binding.id.startswith("folder.")}  # type: ignore[union-attr]


def rendered(app: CifartuiApp) -> str:
    """Return the rows of the summary."""
    facts = app.screen.query_one("#facts", Static)
    return "\n".join(facts.render_line(row).text for row in range(facts.size.height))


async def test_an_absolute_path_is_typed_as_it_is(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        await pilot.press("slash", *"tmp", "slash", "d")
        assert screen.query_one("#path", Input).value == "/tmp/d"


@pytest.mark.parametrize(
    ("typed", "path"), [("~/d", "~/d"), ("./d", "./d"), ("../d", "../d"), ("/tmp/d", "/tmp/d"), ("a.b/~", "/a.b/~")]
)
async def test_a_path_that_does_not_go_on_behind_the_slash_takes_its_place(
    runs_dir: Path, photos: Path, typed: str, path: str
) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        await pilot.press("slash", *typed)
        assert screen.query_one("#path", Input).value == path
        screen.query_one(Folders).focus()
        await pilot.press("slash", *"mnt")
        assert screen.query_one("#path", Input).value == "/mnt"


async def test_a_path_typed_after_one_that_was_looked_into_is_a_new_one(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening(summarize=lambda path, poll, on_bytes: SUMMARY))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        field = screen.query_one("#path", Input)
        for typed, path in (("/a/b", "/a/b"), ("/c", "/c"), ("~/x", "~/x")):
            await pilot.press("slash", *typed, "enter")
            assert field.value == path
            await until(pilot, lambda: isinstance(app.screen, FolderScreen), "the summary")
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen and screen.focused is field, "the browser")
        await pilot.press("end", "y")
        assert field.value == "~/xy"


async def test_a_relative_path_begins_at_the_folder_of_the_tree(runs_dir: Path, photos: Path) -> None:
    asked: list[str] = []

    def summarize(path: str, poll: Callable[[], object], on_bytes: OnBytes) -> FolderSummary:
        asked.append(path)
        return SUMMARY

    app = CifartuiApp(runs_dir, environment=opening(summarize=summarize))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        await pilot.press("u", "slash", "full_stop", "slash", *"wor")
        field = screen.query_one("#path", Input)
        await until(pilot, lambda: field._suggestion == "./work/", "the completion")
        await pilot.press("right", *"photos", "enter")
        await until(pilot, lambda: asked, "the summary")
        assert asked == [str(photos)]


@pytest.mark.parametrize("focused", ["#folders", "#recents", "#path"])
@pytest.mark.parametrize("arrives", [lambda text: Burst(text, is_reply=False), events.Paste], ids=["burst", "paste"])
async def test_a_path_that_comes_at_once_is_typed_wherever_the_focus_is(
    runs_dir: Path, photos: Path, arrives: Callable[[str], Message], focused: str
) -> None:
    app = CifartuiApp(runs_dir, environment=opening(recent_folders=lambda: (str(photos),)))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        screen.query_one(focused).focus()
        await pilot.pause()
        app.post_message(arrives(f"{photos}\r"))
        field = screen.query_one("#path", Input)
        await until(pilot, lambda: field.value == str(photos), "the path")
        assert screen.focused is field
        assert not app._notifications
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, FolderScreen) and app.screen.summary, "the summary")


async def test_a_path_pasted_behind_the_key_that_begins_one_has_one_slash(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        await pilot.press("slash")
        app.post_message(events.Paste(str(photos)))
        await until(pilot, lambda: screen.query_one("#path", Input).value == str(photos), "the path")


async def test_a_tab_before_a_path_that_comes_at_once_does_not_matter(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        app.post_message(Burst(f"\t{photos}", is_reply=False))
        await until(pilot, lambda: screen.query_one("#path", Input).value == str(photos), "the path")


async def test_a_burst_that_is_no_path_is_no_keys_and_no_path(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        app.post_message(Burst("jkju", is_reply=False))
        await until(pilot, lambda: app._notifications, "that it is no keys")
        assert screen.query_one("#path", Input).value == ""


async def test_a_typed_path_is_completed_and_looked_into(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        await pilot.press("slash")
        field = screen.query_one("#path", Input)
        field.value = f"{photos.parent}/pho"
        field.cursor_position = len(field.value)
        await until(pilot, lambda: field._suggestion == f"{photos}/", "the completion")
        await pilot.press("right")
        assert field.value == f"{photos}/"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, FolderScreen) and app.screen.summary, "the summary")


async def test_a_name_is_shown_as_it_is(runs_dir: Path, photos: Path) -> None:
    photos.rename(photos.parent / "[red]x\x1b[2J")
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        tree = screen.query_one(Folders)
        await until(pilot, lambda: len(tree.root.children) == 1, "the tree")
        assert str(tree.root.children[0].label) == "[red]x\\x1b[2J"


async def test_recent_folders_come_first_and_are_looked_into(runs_dir: Path, photos: Path) -> None:
    asked: list[str] = []

    def summarize(path: str, poll: Callable[[], object], on_bytes: OnBytes) -> FolderSummary:
        asked.append(path)
        return SUMMARY

    app = CifartuiApp(
        runs_dir, environment=opening(recent_folders=lambda: ("/data/birds", "/data/[red]"), summarize=summarize)
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await browser(pilot)
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, FolderScreen) and app.screen.summary, "the summary")
        assert asked == ["/data/[red]"]
        await until(pilot, lambda: "15 others" not in said(app, "#classes") and "… 5 others" in said(app, "#classes"),
                    "the classes")  # fmt: skip
        summary = app.screen.query_one("#summary")
        await pilot.press("pagedown")
        await until(pilot, lambda: summary.scroll_y > 0, "the next page")
        await pilot.press("pageup")
        await until(pilot, lambda: summary.scroll_y == 0, "the first page")
        assert "c" in keys(app)
        await pilot.press("c")
        assert "species 12" in said(app, "#classes")
        await pilot.press("escape")
        assert isinstance(app.screen, OpenFolder)
        await pilot.press("escape")
        assert isinstance(app.screen, Home)


async def test_what_cannot_be_used_says_why(runs_dir: Path, photos: Path) -> None:
    app = CifartuiApp(runs_dir, environment=opening())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await browser(pilot)
        await pilot.press("slash")
        screen.query_one("#path", Input).value = "/no/such/folder"
        await pilot.press("enter")
        await until(pilot, lambda: "/no/such/folder does not exist" in said(app, "#found"), "why")
        assert not app.screen.query_one("#choices").display
        assert keys(app) == {"escape"}


async def test_a_listing_tells_how_far_it_is_and_ends_with_escape(runs_dir: Path, photos: Path) -> None:
    ended = threading.Event()

    def endless(path: str, poll: Callable[[], object], on_bytes: OnBytes) -> FolderSummary:
        try:
            while True:
                poll()
                ended.wait(0.001)
        finally:
            ended.set()

    app = CifartuiApp(runs_dir, environment=opening(summarize=endless, recent_folders=lambda: ("/slow",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await browser(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "folders and images …   Esc ends that" in said(app, "#found"), "how far it is")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, OpenFolder), "the browser")
        await until(pilot, ended.is_set, "the end of the listing")


async def test_an_archive_shows_how_far_it_is_unpacked_and_escape_ends_that(runs_dir: Path, photos: Path) -> None:
    ended = threading.Event()

    def unpacks(path: str, poll: Callable[[], object], on_bytes: OnBytes) -> FolderSummary:
        try:
            while True:
                on_bytes(3_100_000, 9_400_000)
                ended.wait(0.001)
        finally:
            ended.set()

    app = CifartuiApp(runs_dir, environment=opening(summarize=unpacks, recent_folders=lambda: ("/photos.zip",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await browser(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "unpacking: 3.1 MB of 9.4 MB …   Esc ends that" in said(app, "#found"), "how far")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, OpenFolder), "the browser")
        await until(pilot, ended.is_set, "the end of the unpacking")


async def test_a_disk_that_does_not_answer_keeps_nobody(runs_dir: Path, photos: Path) -> None:
    may_answer = threading.Event()

    def slow(path: str, poll: Callable[[], object], on_bytes: OnBytes) -> FolderSummary:
        may_answer.wait(60)
        return SUMMARY

    app = CifartuiApp(runs_dir, environment=opening(summarize=slow, recent_folders=lambda: ("/slow",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await browser(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, FolderScreen), "the screen")
        await pilot.press("q")
    may_answer.set()


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
def test_picture_of_the_browser(
    snap_compare: Callable[..., bool], runs_dir: Path, photos: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await pilot.app.push_screen(OpenFolder(catalog.list_presets(), Path("photos")))
        screen = pilot.app.screen
        tree = screen.query_one(Folders)
        await until(pilot, lambda: len(tree.root.children) == 2, "the tree")
        screen.query_one("#path", Input).cursor_blink = False

    app = CifartuiApp(runs_dir, environment=opening(recent_folders=lambda: ("/data/birds", "/data/x")), display=display)
    assert snap_compare(app, terminal_size=size, run_before=ready)


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
def test_picture_of_a_folder(
    snap_compare: Callable[..., bool], runs_dir: Path, display: Display, size: tuple[int, int]
) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await pilot.app.push_screen(FolderScreen("/data/birds", catalog.list_presets()))
        await until(pilot, lambda: pilot.app.screen.query_one("#choices").display, "the summary")
        await pilot.pause()

    app = CifartuiApp(runs_dir, environment=opening(summarize=lambda path, poll, on_bytes: SUMMARY), display=display)
    assert snap_compare(app, terminal_size=size, run_before=ready)
