"""What files hold is shown and never obeyed: no screen sends control characters of theirs, none takes it for markup."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.text import Text
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.screen import Screen

from engine.journal.events import GpuSample
from engine.runs import predictions
from engine.runs.predictions import Predictions
from engine.shared.data_locations import Location
from presets.catalog import Listed
from presets.schema import Data, Preset
from tests.hostile_run import ATTACK, LONG, MARK, hostile_folder, hostile_preset, hostile_run
from tests.ui.conftest import FACTS, environment, until
from tests.ui.test_look import on_screen
from tui.app import CifartuiApp
from tui.data.environment import GpuReadings, Queued
from tui.display import Display
from tui.screens.scores import MatrixScreen, ScoresScreen
from tui.screens.top_classes import TopClasses

OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
GPUS = GpuReadings((GpuSample(index=0, name=ATTACK, missing={"power": ATTACK}),), "", 8, 10**10)


def sent(app: CifartuiApp) -> str:
    """Return what is painted, its colours and plain moves taken away; markup and escapes must be there as text."""
    painted = on_screen(app)
    assert "\x1b[38;5;77m" not in painted  # the colour that the texts ask for
    return re.sub(r"\x1b\[[\d;]*m", "", painted)


def hostile_surroundings() -> Any:
    listed = [
        Listed(ATTACK, Path(ATTACK), hostile_preset(), "", ATTACK),
        Listed("broken" + MARK, Path(ATTACK), None, LONG),
    ]

    def located(data: Data, data_dir: str | None) -> Location:
        return Location(dataset=data.dataset, kind="absent", text=ATTACK, advice=LONG)

    def facts(presets: Sequence[Preset], data_dir: str | None) -> list[Any]:
        return [replace(FACTS, network=ATTACK) for _ in presets]

    return environment(
        GPUS, presets=lambda: listed, loader=lambda: lambda name, overrides: hostile_preset(), locate=located,
        host=ATTACK, visible_gpus=ATTACK, known_facts=facts, queued=lambda runs_dir: Queued((ATTACK,), False),
    )  # fmt: skip


def hostile_app(runs_dir: Path, display: Display, *, attached: bool) -> CifartuiApp:
    hostile_folder(runs_dir)
    run = hostile_run(runs_dir).finish("failed", LONG)
    return CifartuiApp(
        runs_dir, attach=run.folder if attached else None, environment=hostile_surroundings(), display=display
    )


async def shown(pilot: Pilot[Any], text: str = MARK) -> str:
    """Return what is sent, once `text` is part of it."""
    await until(pilot, lambda: text in sent(pilot.app), f"{text!r} on {pilot.app.screen!r}")  # type: ignore[arg-type]
    return sent(pilot.app)  # type: ignore[arg-type]


ASCII = Display(plots="ascii", colors="16")
FROM_HOME: dict[str, tuple[str, ...]] = {
    "home": (), "another preset": ("down",), "layers": ("l",), "marks": ("space",), "start": ("enter",),
    "queue": ("Q",), "taken out": ("Q", "d"), "runs": ("r",), "curves": ("r", "space", "down", "space", "v"),
    "difference": ("r", "space", "down", "space", "equals_sign"), "export": ("r", "x"), "delete": ("r", "D"),
    "path": ("r", "Y"), "palette": ("ctrl+p",), "resume": ("r", "R"), "attach": ("a",), "recent": ("tab", "enter"),
}  # fmt: skip
FROM_THE_MONITOR: dict[str, tuple[str, ...]] = {
    "monitor": (), "log": ("L",), "zoom": ("z",), "predictions": ("i",), "class": ("i", "c", "Z", "Q", "Z", "enter"),
    "resume": ("R",), "abort": ("X",), "command": ("s",), "help": ("question_mark",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("attached", "keys", "display"),
    [
        *(pytest.param(False, keys, Display(), id=f"home-{name}") for name, keys in FROM_HOME.items()),
        *(pytest.param(True, keys, Display(), id=f"run-{name}") for name, keys in FROM_THE_MONITOR.items()),
        *(
            pytest.param(True, keys, ASCII, id=f"ascii-{name}")
            for name, keys in FROM_THE_MONITOR.items()
            if len(keys) < 2
        ),
    ],
)
async def test_no_screen_obeys_what_files_say(
    runs_dir: Path, display: Display, attached: bool, keys: tuple[str, ...]
) -> None:
    left: list[object] = []
    app = hostile_app(runs_dir, display, attached=attached)
    app.exit = lambda *asked, **more: left.append(asked)  # type: ignore[method-assign]
    async with app.run_test(size=(150, 50)) as pilot:
        await shown(pilot)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.05)
        seen = await shown(pilot, "") if keys[-1:] == ("question_mark",) else await shown(pilot)
        assert not OBEYED.findall(seen)
        assert not left


async def test_markup_is_there_to_be_read(runs_dir: Path) -> None:
    app = hostile_app(runs_dir, Display(), attached=False)
    async with app.run_test(size=(200, 60)) as pilot:
        seen = await shown(pilot, "stage 1")
        assert "[red]r[/][@click=app.quit]" in seen
        assert f"stage 1    {MARK}␛]52;c" in seen
        assert "weights " + MARK in seen


async def test_the_palette_shows_titles_as_they_are(runs_dir: Path) -> None:
    hostile_run(runs_dir, "[@click=app.quit]q[/] [red", long="x").finish("failed", "x")
    app = CifartuiApp(runs_dir, environment=environment())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "runs", ()), "the run")
        await pilot.press("ctrl+p", *"bad")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette), "the palette")
        assert "[@click=app.quit]q[/] [red, failed" in await shown(pilot, "[@click")


async def test_a_row_keeps_its_width_and_what_stands_beside_it(runs_dir: Path) -> None:
    app = hostile_app(runs_dir, Display(), attached=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        assert {strip.cell_length for strip in app.screen._compositor.render_strips()} == {120}
        assert {cell_len(row) for row in sent(app).split("\n")} == {120}


async def test_the_farewell_is_plain_text(runs_dir: Path) -> None:
    run = hostile_run(runs_dir, name="[red]x\x1b[2J").live()
    app = CifartuiApp(runs_dir, attach=run.folder, environment=environment(now=time.time))
    said: list[object] = []
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        app.exit = lambda message: said.append(message)  # type: ignore[assignment, method-assign]
        await pilot.press("q")
        await until(pilot, lambda: said, "the farewell")
    assert [type(message) for message in said] == [Text]  # a str would be markup
    assert str(said[0]) == "Training goes on. Come back with: cifartui attach [red]x␛[2J"
    run.die()


def test_a_copied_path_pastes_no_command(runs_dir: Path) -> None:
    from tui.terminal import sequences

    copied: list[str] = []

    class _App:
        _driver = None
        copy_to_clipboard: Callable[[str], None] = staticmethod(copied.append)

    sequences.copy(_App(), "/runs/x\ncurl evil\udcff")  # type: ignore[arg-type]
    assert copied == ["/runs/x␊curl evil\ufffd"]


@pytest.mark.parametrize(("key", "screen"), [("x", MatrixScreen), ("t", ScoresScreen), ("5", TopClasses)])
async def test_no_screen_over_predictions_obeys_the_names_of_classes_and_files(
    runs_dir: Path, key: str, screen: type[Screen[Any]]
) -> None:
    run = hostile_run(runs_dir).finish("failed", LONG)
    names = tuple(f"{text}{number}" for number, text in enumerate((ATTACK, LONG, ATTACK, "plain", "[red]x", "e")))
    labels = tuple(number % 6 for number in range(36))
    found = Predictions(
        run=run.folder.id, split="test", checkpoint="best", epoch=1, global_step=10**6, class_names=names, image_size=4,
        true=labels, predicted=tuple((label + row // 6) % 6 for row, label in enumerate(labels)),
        confidence=(0.5,) * 36, top=tuple(tuple((label + row // 6 + rank) % 6 for rank in range(5)) for row, label in
        enumerate(labels)), top_probability=((0.5, 0.2, 0.1, 0.1, 0.05),) * 36, names=(ATTACK,) * 36,
    )  # fmt: skip
    predictions.write(run.folder, found, bytes(48 * 36))
    app = CifartuiApp(runs_dir, attach=run.folder, environment=environment())
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "best" in getattr(app.screen, "state", app.screen).checkpoints, "the run")
        await pilot.press("i")
        await until(pilot, lambda: getattr(app.screen, "found", None), "the predictions")
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, screen), "the screen")
        await until(pilot, lambda: f"{MARK}␛]52;c" in sent(app), "the names")
        assert not OBEYED.findall(sent(app))
        assert {cell_len(row) for row in sent(app).split("\n")} == {100}
