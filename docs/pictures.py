"""Draws the README's pictures from real runs, as a terminal shows them.

python docs/pictures.py [--preset basenet] [--epochs 15] [--at 9] [--size 120x36]; data as for any run. Trains the
preset, and takes Home and the Monitor. With --ablation-runs DIR it trains nothing, and takes the ablation's table
and the test images of its first step from the runs kept there.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from engine.runs.commands import Stop
from engine.runs.folder import RunFolder
from engine.runs.journal import append_command
from engine.runs.start import start_run
from tui.app import CifartuiApp

PICTURES = Path(__file__).parent / "pictures"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="basenet")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--at", type=int, default=9, help="epochs trained when the Monitor is taken")
    parser.add_argument("--data-dir")
    parser.add_argument("--runs-dir", type=Path, help="keep the run here; its path is in the pictures")
    parser.add_argument("--size", default="120x36")
    parser.add_argument("--ablation-runs", type=Path)
    asked = parser.parse_args()
    columns, lines = map(int, asked.size.split("x"))
    PICTURES.mkdir(exist_ok=True)
    if asked.ablation_runs is not None:
        await _take_ablation(asked.ablation_runs, (columns, lines))
        return
    with tempfile.TemporaryDirectory() as temporary:
        runs = asked.runs_dir or Path(temporary)
        run = start_run(runs, asked.preset, [f"train.epochs={asked.epochs}"], data_dir=asked.data_dir)
        app = CifartuiApp(runs, asked.data_dir, attach=run)
        async with app.run_test(size=(columns, lines)) as pilot:
            await _until(pilot, run, lambda: len(run.read_state().epochs) >= asked.at)
            await _until(pilot, run, lambda: run.read_state().step > run.read_state().stage.steps_per_epoch / 2)
            await pilot.pause(1.0)
            _take(app, "monitor")
            append_command(run.commands, Stop())
            await _until(pilot, run, lambda: not run.worker_lives())
            await pilot.pause(1.0)
            _take(app, "monitor-stopped")
            await pilot.press("escape")
            await pilot.pause(3.0)
            await pilot.press("j")
            await pilot.pause(1.0)
            _take(app, "home")


async def _take_ablation(runs: Path, size: tuple[int, int]) -> None:
    app = CifartuiApp(runs)
    async with app.run_test(size=size) as pilot:
        await pilot.press("t")
        await pilot.pause(3.0)
        _take(app, "ablation")
        await pilot.press("enter")
        await pilot.pause(3.0)
        await pilot.press("i")
        await pilot.pause(3.0)
        _take(app, "predictions")


async def _until(pilot: Pilot[None], run: RunFolder, condition: Callable[[], object]) -> None:
    while not condition():
        finished = run.read_state().finished
        if finished is not None and finished.outcome == "failed":
            raise SystemExit(finished.reason)
        await pilot.pause(0.5)


def _take(app: CifartuiApp, name: str) -> None:
    path = PICTURES / f"{name}.svg"
    path.write_text(app.export_screenshot(title=f"cifartui: {name.replace('-', ', ')}"))
    print(path)


if __name__ == "__main__":
    asyncio.run(main())
