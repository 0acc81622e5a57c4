"""Draws the README's pictures from real runs, as a terminal shows them: python docs/pictures.py [--data-dir DIR].

Trains, through the command line and on real CIFAR-100: BaseNet with four learning rates on a part of the images;
BaseNet on all of them, whose learning rate is halved on the way and which is stopped with a key; BaseNet's range test;
recipes/basenet-15, of which there is a report; and the ablation's first steps. Twenty-five minutes on two CPU cores
that do nothing else, ten without the ablation (--ablation-scale 0). The report's page is drawn by Chromium, and left as
it is where none is on the PATH; --report RUN draws that page alone, of a run that is there.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace
from PIL import Image
from textual.pilot import Pilot

from engine.journal.state import RunState
from engine.runs.find_run import find_run
from engine.runs.run_dir import RunDir, list_runs
from engine.shared.data_locations import Location, locate
from presets.schema import Data
from tui.app import CifartuiApp
from tui.data.environment import Environment

PICTURES = Path(__file__).resolve().parent / "pictures"
_WIDE, _USUAL, _WITH_SCORES, _LOW = (160, 45), (120, 36), (152, 36), (120, 28)
_RATES = (0.002, 0.005, 0.01, 0.03)
_EPOCHS, _HALVED_AFTER, _TAKEN_AFTER = 20, 4, 7
_PAGES = {
    "report": (1240, 1710, ""),
    "report-matrix": (1240, 1600, "section > :not(#matrix-1):not(#matrix-1 ~ *) { display: none; }"),
}
"""Pictures of the report's page: pixels that are shown of it, and a style that leaves out what comes before."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SETTLED_S = 3.0
"""Longer than any screen takes to look at the runs and the machine again."""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where CIFAR-100 is (else CIFARTUI_DATA, else your data folder)")
    parser.add_argument(
        "--runs-dir", type=Path, help="from the root: keep the runs here, and show those that are here already"
    )
    parser.add_argument(
        "--ablation-scale", type=float, default=1, help="so much of its steps' epochs; 0 keeps the table as it is"
    )
    parser.add_argument("--report", metavar="RUN", help="draw nothing but the page of this run")
    asked = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    data_dir = str(Path(asked.data_dir).absolute()) if asked.data_dir else None
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)  # what is shown of paths is short, and the same on every machine
        studio = _Studio(asked.runs_dir or Path("runs"), data_dir)
        if asked.report:
            studio.draw_report(find_run(studio.runs_dir, asked.report))
        else:
            await studio.draw(asked.ablation_scale)


class _Studio:
    def __init__(self, runs_dir: Path, data_dir: str | None) -> None:
        self.runs_dir, self.data_dir = runs_dir, data_dir

    async def draw(self, ablation_scale: float) -> None:
        for rate in _RATES:
            changes = ("--set", "data.train_limit=9000", "--set", f"optimizer.lr={rate}")
            self.cifartui("train", "basenet", "--epochs", "12", *changes, "--output", "quiet")
        self.cifartui("train", "basenet", "--epochs", str(_EPOCHS), "--detach")
        run = list_runs(self.runs_dir)[0]
        try:
            await self.draw_live(run)
        finally:
            if run.worker_lives():
                self.cifartui("abort", run.id)
        self.cifartui("evaluate", run.id)
        await self.draw_predictions(run)
        await self.draw_range_test()
        self.cifartui("train", "recipes/basenet-15", "--output", "quiet")
        self.draw_report(list_runs(self.runs_dir)[0])
        if ablation_scale:
            self.cifartui("ablation", "0-4", "--epochs-scale", str(ablation_scale), "--output", "quiet")
            await self.draw_ablation()

    async def draw_live(self, run: RunDir) -> None:
        """Monitor, Runs and Home while the run trains, then the Monitor once it is stopped."""
        async with self.app(run).run_test(size=_WIDE) as pilot:
            await _until(pilot, run, lambda state: len(state.epochs) >= _HALVED_AFTER)
            self.cifartui("lr", run.id, "0.5")
            await _until(pilot, run, lambda state: len(state.epochs) >= _TAKEN_AFTER and state.step > 400)
            await _press(pilot)
            _take(pilot, "monitor")
            await _press(pilot, "escape", "r")
            await _press(pilot, "j", *["space"] * len(_RATES), "k")
            _take(pilot, "runs")
            await _press(pilot, "escape", "j")
            await pilot.resize_terminal(*_USUAL)
            await _press(pilot)
            _take(pilot, "home")
            await _press(pilot, "a")
            await _press(pilot, "s")
            await _until(pilot, run, lambda state: state.is_finished)
            await _press(pilot)
            _take(pilot, "monitor-stopped")

    async def draw_predictions(self, run: RunDir) -> None:
        """The test images as the run's best weights see them."""
        async with self.app(run).run_test(size=_WITH_SCORES) as pilot:
            await _press(pilot)
            await _press(pilot, "i")
            _take(pilot, "predictions")

    async def draw_range_test(self) -> None:
        """The Monitor of a learning-rate range test."""
        self.cifartui("lr-find", "basenet", "--output", "quiet")
        async with self.app(list_runs(self.runs_dir)[0]).run_test(size=_LOW) as pilot:
            await _press(pilot)
            _take(pilot, "range-test")

    def draw_report(self, run: RunDir) -> None:
        """The upper part of a run's page, and its matrix, as Chromium draws them."""
        page = Path("report.html").absolute()
        self.cifartui("report", run.id, "--output", str(page), "--force")
        data = run.read_state().data
        assert data is not None, "trained, so it had data"
        text = page.read_text(encoding="utf-8").replace(str(Path(data.source).parent), "~/data")
        browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
        if browser is None:
            print("There is no Chromium on the PATH: the report's pictures stay as they are.", flush=True)
            return
        for name, (width, height, style) in _PAGES.items():
            page.write_text(text.replace("</style>", f"{style}</style>"), encoding="utf-8")
            drawn = PICTURES / f"{name}.png"
            options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
            where = (f"--window-size={width},{height}", f"--screenshot={drawn}", page.as_uri())
            subprocess.run([browser, *options, *where], check=True, stderr=subprocess.DEVNULL)
            with Image.open(drawn) as picture:
                picture.convert("RGB").save(drawn, optimize=True)
            print(drawn, flush=True)

    async def draw_ablation(self) -> None:
        """The ablation's table."""
        async with self.app().run_test(size=_LOW) as pilot:
            await _press(pilot)
            await _press(pilot, "t")
            _take(pilot, "ablation")

    def app(self, run: RunDir | None = None) -> CifartuiApp:
        return CifartuiApp(self.runs_dir, self.data_dir, run, Environment(locate=_locate))

    def cifartui(self, *arguments: str) -> None:
        print("cifartui", *arguments, flush=True)
        places = ["--runs-dir", str(self.runs_dir), *(["--data-dir", self.data_dir] if self.data_dir else [])]
        command = [sys.executable, "-m", "cifartui", *places, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _locate(data: Data, data_dir: str | None) -> Location:
    """Find data as ever, and call the folder where somebody keeps it ~/data."""
    found = locate(data, data_dir)
    return (
        found if found.path is None else replace(found, text=found.text.replace(str(Path(found.path).parent), "~/data"))
    )


async def _until(pilot: Pilot[None], run: RunDir, condition: Callable[[RunState], object]) -> None:
    while not condition(state := run.read_state()):
        if state.finished is not None:
            raise SystemExit(f"{run.path}: {state.finished.outcome}, {state.finished.reason}")
        await pilot.pause(0.5)


async def _press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, and wait until what they show is there."""
    await pilot.press(*keys)
    await pilot.pause(_SETTLED_S)


def _take(pilot: Pilot[None], name: str) -> None:
    path = PICTURES / f"{name}.svg"
    path.write_text(pilot.app.export_screenshot(title=f"cifartui: {name.replace('-', ', ')}"), encoding="utf-8")
    print(path, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
