"""Home: what it says of a preset, marks, the queue's row, and the way in for a first-time user."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.containers import VerticalScroll
from textual.widgets import Input

from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.shared.data_locations import Location
from presets.schema import Data, Preset
from tests.ui.conftest import FACTS, NO_GPU, ONE_GPU, environment, locate, until
from tests.ui.sample_run import SampleRun, training
from tests.ui.test_home import said
from tests.waiting import wait_for
from tui.app import CifartuiApp
from tui.data.environment import GpuReadings, Queued
from tui.data.network_facts import NetworkFacts
from tui.screens.dialogs import Help
from tui.screens.home import Home
from tui.screens.monitor import Monitor
from tui.widgets.lists import PresetList


def found_locate(data: Data, data_dir: str | None) -> Location:
    return Location(dataset=data.dataset, kind="folder", text="found")


def in_sight(app: CifartuiApp, selector: str) -> bool:
    return bool(app.screen.query_one(selector).size.height)


# --- the description -------------------------------------------------------------------------------


async def test_size_and_memory_are_told(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "28,022 parameters, 0.00124 GFLOP an image" in said(app, "#description"), "size")
        await until(pilot, lambda: "needs about 1.7 GB; 6.6 GB are free on GPU 0" in said(app, "#description"), "room")


async def test_the_gpu_of_a_run_is_not_foreseen_for_the_next_one(runs_dir: Path) -> None:
    gpus = tuple(replace(ONE_GPU.gpus[0], index=index, memory_used_bytes=0) for index in range(2))
    app = CifartuiApp(runs_dir, environment=environment(replace(ONE_GPU, gpus=gpus)))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "43 GB are free on GPU 0" in said(app, "#description"), "the first GPU")
        with SampleRun(runs_dir, device="cuda:0").live().begin():
            await until(pilot, lambda: "43 GB are free on GPU 1" in said(app, "#description"), "the other one")


async def test_too_little_memory_is_a_warning_with_what_to_do(runs_dir: Path) -> None:
    (gpu,) = ONE_GPU.gpus
    full = GpuReadings((replace(gpu, memory_used_bytes=42_000_000_000),), "", 64)
    app = CifartuiApp(runs_dir, environment=environment(full))
    warning = "needs about 1.7 GB, 0.9 GB are free on GPU 0: lower train.batch_size"
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: warning in said(app, "#description"), "the warning")


async def test_a_frozen_network_says_how_little_is_trained(runs_dir: Path) -> None:
    frozen = replace(FACTS, num_trainable=8500)
    ways = environment(known_facts=lambda presets, data_dir: [frozen for _ in presets])
    app = CifartuiApp(runs_dir, environment=ways)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "28,022 parameters (8,500 trained)" in said(app, "#description"), "size")


class Computer:
    """Knows the facts of no preset, and computes them when told."""

    def __init__(self, answer: NetworkFacts | str = FACTS) -> None:
        self.answer, self.go = answer, threading.Event()
        self.asked: list[str] = []
        self.withdrawn: list[str] = []

    def known(self, presets: Sequence[Preset], data_dir: str | None) -> list[NetworkFacts | None]:
        return [None for _ in presets]

    def compute(
        self, presets: Sequence[Preset], data_dir: str | None, stop: threading.Event
    ) -> list[NetworkFacts | str]:
        (preset,) = presets
        self.asked.append(preset.title)
        while not (self.go.is_set() or stop.wait(0.01)):
            pass
        if stop.is_set():
            self.withdrawn.append(preset.title)
        return [self.answer]

    def app(self, runs_dir: Path) -> CifartuiApp:
        return CifartuiApp(
            runs_dir, environment=environment(known_facts=self.known, compute_facts=self.compute)
        )  # fmt: skip


async def test_what_is_not_known_is_counted_in_the_background_once(runs_dir: Path) -> None:
    computer = Computer()
    app = computer.app(runs_dir)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "being counted in the background" in said(app, "#description"), "that it is asked")
        await until(pilot, lambda: computer.asked == ["Demo"], "the question")
        computer.go.set()
        await until(pilot, lambda: "28,022 parameters" in said(app, "#description"), "the answer")
        await pilot.press("j")
        await until(pilot, lambda: computer.asked == ["Demo", "BaseNet"], "the next question")
        await pilot.press("k")
        assert "28,022 parameters" in said(app, "#description")
        assert computer.asked == ["Demo", "BaseNet"]


async def test_moving_on_withdraws_the_question(runs_dir: Path) -> None:
    computer = Computer()
    app = computer.app(runs_dir)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: computer.asked == ["Demo"], "the question")
        await pilot.press("j")
        await until(pilot, lambda: computer.withdrawn == ["Demo"], "its end")
        await until(pilot, lambda: computer.asked == ["Demo", "BaseNet"], "the next question")
    wait_for(lambda: computer.withdrawn == ["Demo", "BaseNet"], "leaving to withdraw, too")


async def test_why_a_network_cannot_be_built_is_said(runs_dir: Path) -> None:
    computer = Computer("The network [needs] 32×32 pixels.")
    computer.go.set()
    app = computer.app(runs_dir)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "The network [needs] 32×32 pixels." in said(app, "#description"), "why")


async def test_earlier_runs_of_the_preset_are_told(runs_dir: Path) -> None:
    with SampleRun(runs_dir, preset_name="demo").begin().prepare() as run:
        run.train_epoch(1, seconds=9.0).finish()
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "trained once here: 9.0 s an epoch" in said(app, "#description"), "the earlier run")
        await pilot.press("j")
        assert "trained once" not in said(app, "#description")


async def test_a_reading_that_says_the_same_paints_nothing(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.home._READ_EVERY_S", 0.01)
    readings: list[int] = []

    def reader() -> Callable[[], GpuReadings]:
        def read() -> GpuReadings:
            readings.append(1)
            return ONE_GPU

        return read

    app = CifartuiApp(runs_dir, environment=environment(gpu_reader=reader))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "GPU 0" in said(app, "#description"), "the memory")
        before = app.screen.query_one("#description").content  # type: ignore[attr-defined]
        so_far = len(readings)
        await until(pilot, lambda: len(readings) > so_far + 5, "more readings")
        assert app.screen.query_one("#description").content is before  # type: ignore[attr-defined]


async def test_what_is_out_of_sight_is_counted_and_paged_to(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j")
        pane = app.screen.query_one("#right", VerticalScroll)
        await until(pilot, lambda: "more row" in said(app, "#more"), "the hint")
        await pilot.press("pagedown")
        await until(pilot, lambda: pane.scroll_y == pane.max_scroll_y > 0, "the last row")
        await until(pilot, lambda: said(app, "#more").strip() == "pgup back up", "the way back")
        await pilot.press("k")
        await until(pilot, lambda: pane.scroll_y == 0, "the first row of another preset")


async def test_rows_out_of_sight_are_counted_once_the_screen_is_laid_out(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "generated at start" in said(app, "#description"), "where the data is")
        await until(pilot, lambda: not said(app, "#more").strip(), "no rows, for all are in sight")
        await pilot.resize_terminal(80, 20)
        pane = app.screen.query_one("#right", VerticalScroll)
        await until(pilot, lambda: pane.max_scroll_y > 1, "a pane that is too small")
        rows = f"pgdn {pane.max_scroll_y} more rows"
        await until(pilot, lambda: said(app, "#more").strip() == rows, "the rows of the smaller pane")


# --- layers ----------------------------------------------------------------------------------------


async def test_layers_take_the_place_of_the_description(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        assert not in_sight(app, "#layers")
        await pilot.press("l")
        await until(pilot, lambda: "30 layers, 28,022 parameters" in said(app, "#layers-heading"), "the layers")
        first = said(app, "#layers-table").splitlines()[0].split()
        assert first == ["1", "conv", "5", "32→28", "3→6", "456"]
        assert max(len(line) for line in said(app, "#layers-table").splitlines()) <= 53
        assert not in_sight(app, "#right")
        await until(pilot, lambda: "more rows" in said(app, "#more"), "the hint")
        await pilot.press("escape")
        await until(pilot, lambda: in_sight(app, "#right") and not in_sight(app, "#layers"), "the description")


async def test_layers_stand_beside_the_description_where_there_is_room(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: "30 layers" in said(app, "#layers-heading"), "the layers")
        assert in_sight(app, "#right")
        await pilot.press("l")
        await until(pilot, lambda: not in_sight(app, "#layers"), "the layers to go")
        assert in_sight(app, "#right")


async def test_a_broken_preset_has_no_layers(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(160, 45)) as pilot:
        await pilot.press("G")
        await until(pilot, lambda: "cannot be used" in said(app, "#layers-table"), "why")


# --- filter and marks ------------------------------------------------------------------------------


async def test_the_filter_counts_what_it_finds(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash")
        assert said(app, "#matches").strip() == "4 of 4"
        await pilot.press("r", "e", "p", "o", "r", "t")
        await until(pilot, lambda: said(app, "#matches").strip() == "2 of 4", "the count")
        await pilot.press("z")
        await until(pilot, lambda: said(app, "#matches").strip() == "0 of 4", "the count")
        assert "No preset matches" in str(app.screen.query_one(PresetList).options[0].prompt)
        await until(pilot, lambda: "No preset has these words" in said(app, "#description"), "what is found")
        await pilot.press("backspace", "down")
        await until(pilot, lambda: "No preset has" not in said(app, "#description"), "the one found described")
        assert app.screen.query_one(PresetList).has_focus
        assert in_sight(app, "#filter-row")
        await pilot.press("escape")
        await until(pilot, lambda: not in_sight(app, "#filter-row"), "all presets")
        assert app.screen.query_one(PresetList).has_focus


async def test_marks_are_shown_counted_and_taken_away(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        presets = app.screen.query_one(PresetList)

        def line(name: str) -> str:
            return str(presets.get_option(name).prompt)

        await pilot.press("j", "j", "space", "k", "space")
        assert presets.marked == ["basenet", "vgg-custom"]
        assert line("basenet") == "✓ basenet"
        assert line("demo") == "  demo"
        assert said(app, "#marks").strip() == "2 marked: Enter queues"
        await pilot.press("space")
        assert presets.marked == ["vgg-custom"]
        await pilot.press("slash", "d", "e", "m", "o")
        await until(pilot, lambda: presets.option_count == 2, "the filter")
        assert presets.marked == ["vgg-custom"]
        await pilot.press("escape")
        assert presets.marked == ["vgg-custom"]
        assert line("vgg-custom") == "✓ vgg-custom"
        await pilot.press("escape")
        assert presets.marked == []
        assert line("vgg-custom") == "  vgg-custom"
        assert not app.screen.query_one("#marks").display


async def test_what_cannot_be_used_cannot_be_marked(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("G", "space")
        assert app.screen.query_one(PresetList).marked == []
        await until(pilot, lambda: any("mending" in note.message for note in app._notifications), "why")


# --- the queue -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queued", "expected"),
    [
        (Queued(("vgg-custom", "demo", "demo")), "queue: 3 waiting, next vgg-custom   Q shows it"),
        (Queued(("demo",), is_worked_on=False), "queue: 1 waiting, but nothing works on it, next demo   Q shows it"),
        (Queued(problem="queue.json is damaged"), "queue: queue.json is damaged"),
    ],
)
async def test_a_queue_that_is_not_empty_has_a_row(runs_dir: Path, queued: Queued, expected: str) -> None:
    app = CifartuiApp(runs_dir, environment=environment(queued=lambda runs_dir: queued))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: said(app, "#queue-row").strip() == expected, "the row")
        assert in_sight(app, "#queue-row")


async def test_an_empty_queue_takes_no_row(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "No NVIDIA GPU" in said(app, "#gpus"), "the reading")
        assert not in_sight(app, "#queue-row")


async def test_q_and_r_ask_the_app(runs_dir: Path) -> None:
    asked: list[str] = []
    app = CifartuiApp(runs_dir, environment=environment())
    app.open_queue = lambda: asked.append("queue")  # type: ignore[attr-defined,method-assign,unused-ignore]
    app.open_runs = lambda: asked.append("runs")  # type: ignore[attr-defined,method-assign,unused-ignore]
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("Q", "r")
    assert asked == ["queue", "runs"]


# --- the first time --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "where", "lacking"),
    [
        (NO_GPU, locate, "no CIFAR-100 found and no GPU"),
        (NO_GPU, found_locate, "no GPU"),
        (ONE_GPU, locate, "no CIFAR-100 found"),
    ],
)
async def test_who_lacks_data_or_gpu_is_led_to_demo(
    runs_dir: Path, gpus: GpuReadings, where: Callable[[Data, str | None], Location], lacking: str
) -> None:
    started: list[Any] = []
    with training(runs_dir.parent / "elsewhere", epochs_done=1) as run:

        def start(*arguments: Any) -> RunDir:
            started.append(arguments)
            return run.folder

        app = CifartuiApp(runs_dir, environment=environment(gpus, locate=where, start=start))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: f"No runs yet, {lacking}. New here? Press d" in said(app, "#no-runs"), "demo")
            await pilot.press("j", "d", "d")
            await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
    assert started == [(runs_dir, "demo", RunOptions())]


async def test_who_has_both_is_told_of_enter(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU, locate=found_locate))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "No runs yet. Press Enter" in said(app, "#no-runs"), "what to do")


# --- help ------------------------------------------------------------------------------------------


async def test_help_shows_the_keys_as_they_are_bound(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        app.set_keymap({"home.ablation": "f2", "list.mark": "m"})
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        sections = dict(app.screen._sections())
        assert next(iter(sections)) == "Home"
        home = dict(sections["Home"])
        assert home["f2"] == "the ablation's table"
        assert home["m"].startswith("mark the preset")
        assert home["pgup  pgdn"] == "scroll the description or the layer table"
        assert "t" not in home
        assert dict(sections["Run"])["s"] == "stop after this batch: validate, test the best weights"
        assert dict(sections["Everywhere"])["?"] == "this page"
        page = app.screen.query_one("#help", VerticalScroll)
        await pilot.press("pagedown")
        await until(pilot, lambda: page.scroll_y > 0, "another part of the page")


@pytest.mark.parametrize("screen", [Home, PresetList])
def test_every_key_of_home_can_be_bound_anew(screen: type) -> None:
    ids = [binding.id for binding in screen.BINDINGS]  # type: ignore[attr-defined]
    assert all(ids)
    assert len(set(ids)) == len(ids)


async def test_a_filter_that_is_closed_takes_no_keys_on_the_way_back(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        app.screen.set_focus(None)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help), "help")
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Home), "Home")
        assert isinstance(app.focused, PresetList)
        await pilot.press("slash", "q")
        assert app.screen.query_one("#filter", Input).value == "q"
