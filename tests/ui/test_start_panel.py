"""The panel before a start: fields, errors under them, memory, several presets at once."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input, Static

from engine.runs.run_options import RunOptions
from engine.shared.data_path import NamedData
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import Preset
from tests.ui.conftest import ONE_GPU, environment, facts_for, until
from tests.ui.test_home import said
from tui.app import CifartuiApp
from tui.data.network_facts import NetworkFacts
from tui.screens.home import Home
from tui.screens.start_dialog import StartPanel
from tui.widgets.lists import PresetList


def error(app: CifartuiApp, field: str) -> str:
    """Return what stands under a field, if it can be seen."""
    row = app.screen.query_one(f"#{field}-error", Static)
    return str(row.content) if row.display else ""


async def opened(pilot: Pilot[None], *keys: str) -> StartPanel:
    await pilot.press(*keys, "enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, StartPanel), "the panel")
    assert isinstance(pilot.app.screen, StartPanel)
    return pilot.app.screen


def type_into(panel: StartPanel, **fields: str) -> None:
    for field, text in fields.items():
        panel.query_one(f"#{field}", Input).value = text


async def test_fields_are_filled_and_tab_goes_through_them(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        assert {field.id: field.value for field in panel.query(Input)} == {
            "data": "", "epochs": "15", "batch": "32", "lr": "0.005", "size": "32", "seed": "0", "seeds": "1",
            "device": "auto", "devices": "1", "changes": "",
        }  # fmt: skip
        seen = []
        for _ in panel.query(Input):
            assert app.focused is not None
            seen.append(app.focused.id)
            await pilot.press("tab")
        assert seen == ["epochs", "batch", "lr", "size", "seed", "seeds", "device", "devices", "changes", "data"]
        await pilot.press("up")
        assert app.focused is panel.query_one("#data")


async def test_typing_replaces_and_is_checked_at_once(runs_dir: Path) -> None:
    started: list[Any] = []
    app = CifartuiApp(runs_dir, environment=environment(start=lambda *arguments: started.append(arguments)))
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        await pilot.press("x", "tab", "y")
        await until(pilot, lambda: error(app, "batch"), "the second error")
        assert error(app, "epochs") == 'train.epochs must be a whole number, not "x".'
        assert error(app, "batch") == 'train.batch_size must be a whole number, not "y".'
        await pilot.press("enter")
        assert app.screen is panel
        assert app.focused is panel.query_one("#epochs")
        await pilot.press("backspace", "3")
        await until(pilot, lambda: not error(app, "epochs"), "the error to go")
        assert error(app, "batch")
        type_into(panel, batch="16")
        await until(pilot, lambda: "3 epochs, batch 16" in said(app, "#plan"), "the plan")
        await pilot.press("escape")
        assert isinstance(app.screen, Home)
    assert started == []


async def test_enter_starts_with_what_was_typed(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    orders: list[RunOptions | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(StartPanel(["basenet"], lambda: None), orders.append)
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the panel")
        assert isinstance(app.screen, StartPanel)
        type_into(app.screen, epochs="2", seed="5", device="cpu", changes="train.batch_size=8")
        await pilot.press("enter")
        await until(pilot, lambda: orders, "the order")
    assert orders == [RunOptions(overrides=("train.epochs=2", "train.batch_size=8"), seed=5, device="cpu")]


async def test_several_devices_are_checked_and_share_the_batch(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU))
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        type_into(panel, devices="2", device="cuda:1")
        await until(pilot, lambda: "cuda:1 is one device, and 2 are asked for" in error(app, "devices"), "the error")
        type_into(panel, device="cuda", batch="64")
        await until(pilot, lambda: panel.checked.options == RunOptions(
            overrides=("train.batch_size=64",), device="cuda", devices=2
        ), "the order")  # fmt: skip
        await until(pilot, lambda: "needs about 1.7 GB" in said(app, "#fit"), "what 32 images need")
        type_into(panel, devices="two")
        await until(pilot, lambda: "a whole number from 1 to 64" in error(app, "devices"), "the other error")


async def test_markup_in_what_is_typed_is_shown_as_it_is(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        type_into(panel, epochs="[red]", device="[/]")
        await until(pilot, lambda: error(app, "device"), "the errors")
        assert '"[red]"' in error(app, "epochs")
        assert '"[/]"' in error(app, "device")


async def test_memory_follows_what_is_typed(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "36.3" in said(app, "#gpus"), "the GPU")
        panel = await opened(pilot, "j")
        # 1 GB for 32 images in bf16, and what a worker holds besides; 6.6 of 42.9 GB are free
        await until(pilot, lambda: "needs about 1.7 GB; 6.6 GB are free on GPU 0" in said(app, "#fit"), "it fits")
        assert panel.query_one("#fit").size.height == 1
        type_into(panel, batch="320")
        await until(pilot, lambda: "needs about 11 GB, 6.6 GB are free on GPU 0" in said(app, "#fit"), "it does not")
        assert "lower train.batch_size" in said(app, "#fit")
        type_into(panel, device="cpu")
        await until(pilot, lambda: "needs about 21 GB; 200 GB are free in this machine" in said(app, "#fit"), "host")
        type_into(panel, batch="x")
        await until(pilot, lambda: not said(app, "#fit").strip(), "no verdict on what is not valid")


async def test_what_is_not_known_is_computed_and_that_is_said(runs_dir: Path) -> None:
    may_answer = threading.Event()
    withdrawn: list[bool] = []

    def compute(presets: Sequence[Preset], data_dir: str | None, stop: threading.Event) -> list[NetworkFacts | str]:
        while not (may_answer.wait(0.01) or stop.is_set()):
            pass
        withdrawn.append(stop.is_set())
        return [facts_for(preset) for preset in presets]

    def known(presets: Sequence[Preset], data_dir: str | None) -> list[NetworkFacts | None]:
        return [facts_for(preset) if preset.train.batch_size == 32 else None for preset in presets]

    ways = environment(ONE_GPU, known_facts=known, compute_facts=compute)
    app = CifartuiApp(runs_dir, environment=ways)
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        type_into(panel, batch="64")
        await until(pilot, lambda: "estimating" in said(app, "#fit"), "that it is estimated")
        may_answer.set()
        await until(pilot, lambda: "needs about 2.7 GB" in said(app, "#fit"), "the estimate")
        may_answer.clear()
        type_into(panel, batch="128")
        await until(pilot, lambda: "estimating" in said(app, "#fit"), "that it is estimated")
        await pilot.press("escape")
    may_answer.set()
    assert withdrawn[0] is False


async def test_what_cannot_be_built_is_said(runs_dir: Path) -> None:
    def compute(presets: Sequence[Preset], data_dir: str | None, stop: threading.Event) -> list[NetworkFacts | str]:
        return ["The network cannot be trained on 1 image at once."]

    ways = environment(known_facts=lambda presets, data_dir: [None for _ in presets], compute_facts=compute)
    app = CifartuiApp(runs_dir, environment=ways)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await until(pilot, lambda: "cannot be trained on 1 image" in said(app, "#fit"), "why")


async def test_marked_presets_are_queued_with_the_same_changes(runs_dir: Path) -> None:
    queued: list[Any] = []
    ways = environment(enqueue=lambda *arguments: queued.append(arguments))
    app = CifartuiApp(runs_dir, data_dir="/data", environment=ways)
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j", "space", "j", "space")
        assert "Queue 2 presets: basenet, vgg-custom" in said(app, "#what")
        assert panel.query_one("#epochs", Input).value == ""
        assert panel.query_one("#batch", Input).value == "32"
        type_into(panel, epochs="2", seed="3")
        await pilot.press("enter")
        await until(pilot, lambda: queued, "the queue")
        await until(pilot, lambda: not app.screen.query_one("#marks").display, "the marks to go")
        assert isinstance(app.screen, Home)
    options = RunOptions(overrides=("train.epochs=2",), seed=3, data_dir="/data")
    assert queued == [(runs_dir, ["basenet", "vgg-custom"], options)]


async def test_several_seeds_of_one_preset_are_queued(runs_dir: Path) -> None:
    queued: list[Any] = []
    ways = environment(enqueue=lambda *arguments: queued.append(arguments))
    app = CifartuiApp(runs_dir, environment=ways)
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        type_into(panel, seeds="1,2,5")
        await pilot.press("enter")
        await until(pilot, lambda: queued, "the queue")
        await until(pilot, lambda: any("Queued 3 runs." in each.message for each in app._notifications), "the answer")
        assert isinstance(app.screen, Home)
    assert queued == [(runs_dir, ["basenet"], RunOptions(seeds=(1, 2, 5)))]


async def test_keys_that_come_at_once_open_one_panel(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        presets = app.screen.query_one(PresetList)
        presets.action_select()
        presets.action_select()
        await until(pilot, lambda: isinstance(app.screen, StartPanel), "the panel")
        assert sum(isinstance(screen, StartPanel) for screen in app.screen_stack) == 1


def data_at(named: str, *_: object) -> NamedData:
    """There is one folder of images."""
    if named.rstrip("/") != "/photos":
        raise CifartuiError(f"{named} does not exist; name a folder of images.")
    return NamedData("class-folders", "/photos")


async def test_data_is_looked_at_and_is_in_the_order(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(data_at=data_at, loader=lambda: catalog.load))
    orders: list[RunOptions | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(StartPanel(["basenet"], lambda: None), orders.append)
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the panel")
        assert isinstance(app.screen, StartPanel)
        type_into(app.screen, data="/phot")
        await until(pilot, lambda: "/phot does not exist" in error(app, "data"), "the error")
        await pilot.press("enter")
        assert app.focused is app.screen.query_one("#data")
        type_into(app.screen, data="/photos")
        await until(pilot, lambda: "in place of CIFAR-100" in said(app, "#plan"), "what it replaces")
        type_into(app.screen, data="/phot")
        await until(pilot, lambda: "/phot does not exist" in error(app, "data"), "the error")
        assert "/photos" not in said(app, "#plan"), "nothing of the folder before stands above what is wrong"
        type_into(app.screen, data="/photos/")
        await pilot.press("enter")  # before it is looked at
        await until(pilot, lambda: orders, "the order")
    assert orders == [RunOptions(overrides=NamedData("class-folders", "/photos").overrides)]


async def test_a_disk_that_does_not_answer_keeps_nobody(runs_dir: Path) -> None:
    was_asked, may_answer, was_withdrawn = threading.Event(), threading.Event(), threading.Event()

    def slow(named: str, poll: Callable[[], object], *_: object) -> NamedData:
        was_asked.set()
        may_answer.wait(20)
        try:
            poll()
        finally:
            was_withdrawn.set()
        return NamedData("class-folders", named)

    app = CifartuiApp(runs_dir, environment=environment(data_at=slow))
    async with app.run_test(size=(80, 24)) as pilot:
        panel = await opened(pilot, "j")
        type_into(panel, data="/slow")
        await pilot.press("enter")
        await until(pilot, lambda: "looking at the data" in error(app, "data"), "that it looks")
        await until(pilot, was_asked.is_set, "the disk to be asked")
        await pilot.press("escape")
        assert isinstance(app.screen, Home)
    assert not was_withdrawn.is_set()  # the dashboard was left before it answered
    may_answer.set()
    assert was_withdrawn.wait(20)


async def test_a_gpu_that_is_not_there_is_a_warning_and_no_obstacle(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment(ONE_GPU))
    orders: list[RunOptions | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "36.3" in said(app, "#gpus"), "the GPU")
        home = app.screen
        assert isinstance(home, Home)
        app.push_screen(StartPanel(["basenet"], home.readings), orders.append)
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the panel")
        assert isinstance(app.screen, StartPanel)
        type_into(app.screen, device="cuda:3")
        await until(pilot, lambda: "there is no cuda:3; the last one is cuda:0" in error(app, "device"), "the warning")
        await pilot.press("enter")
        await until(pilot, lambda: orders, "the order")
    assert orders == [RunOptions(device="cuda:3")]


async def test_a_range_test_asks_for_what_it_uses(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "f")
        await until(pilot, lambda: isinstance(app.screen, StartPanel), "the panel")
        assert [field.id for field in app.screen.query(Input)] == ["data", "batch", "size", "seed", "device", "changes"]
        assert "Find a learning rate for basenet" in said(app, "#what")
        await until(pilot, lambda: "2,000 batches while the learning rate rises" in said(app, "#plan"), "the plan")


async def test_the_options_of_another_run_are_filled_in(runs_dir: Path) -> None:
    app = CifartuiApp(runs_dir, environment=environment())
    options = RunOptions(overrides=("train.epochs=2",), seed=7, device="cpu")
    orders: list[RunOptions | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(StartPanel(["basenet"], lambda: None, options=options), orders.append)
        await until(pilot, lambda: isinstance(app.screen, StartPanel) and app.screen.checked.options, "the panel")
        await pilot.press("enter")
        await until(pilot, lambda: orders, "the order")
    assert orders == [options]


async def test_a_changed_network_and_its_images_are_shown(runs_dir: Path) -> None:
    def photos(named: str, *_: object) -> NamedData:
        return NamedData("class-folders", named)

    app = CifartuiApp(runs_dir, environment=environment(loader=lambda: catalog.load, data_at=photos))
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(StartPanel(["photos/frozen"], lambda: None, data="/photos"))
        await until(pilot, lambda: "in /photos" in said(app, "#plan"), "the plan")
        assert isinstance(app.screen, StartPanel)
        assert "torchvision" not in said(app, "#plan"), "the preset's own network is no news"
        type_into(app.screen, changes="model.name=vit_b_16 train.augment=[]")
        await until(pilot, lambda: "torchvision's vit_b_16, weights default" in said(app, "#plan"), "the network")
        shown = " ".join(said(app, "#plan").split())
        assert "augment none" in shown
        type_into(app.screen, changes="data.train_limit=20")
        await until(pilot, lambda: "first 20 training images" in said(app, "#plan"), "the images")
        assert "vit_b_16" not in said(app, "#plan")
