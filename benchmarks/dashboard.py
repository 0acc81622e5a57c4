"""Cost of watching a run: first screen, bytes, CPU, memory, keys, long histories, and the training beside it.

python -m benchmarks.dashboard [first] [live] [keys] [attach] [watched] [--data-dir DIR] [--seconds 60] [--rounds 5]

Prints one row a figure with its limit. BaseNet trains on real CIFAR-100 in a worker meanwhile, as
`cifartui train` starts it; without CIFAR-100 it is the demo. Nothing else should run on the machine.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from benchmarks.long_run import write_long_run
from benchmarks.terminal import Terminal
from engine.journal.events import EpochCompleted, StepsTrained
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir, list_runs
from engine.shared.data_locations import locate
from presets.schema import Data

_CIFARTUI = [sys.executable, "-m", "cifartui"]
_SIZES = ((80, 24), (160, 45))
_SETTLED_S = 5.0
"""After which a dashboard has shown everything once."""
_STARTED_S, _READ_S = 1.5, 5.0
"""By then a program has surely started, and a long history is surely read."""
_NUM_KEYS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="first, live, keys, attach, watched; all by default")
    parser.add_argument("--data-dir")
    parser.add_argument("--seconds", type=float, default=60.0, help="of live training that are measured")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    measure = {
        "first": lambda: first_screen(asked.rounds),
        "live": lambda: live(asked.data_dir, asked.seconds),
        "keys": lambda: keys(asked.data_dir),
        "attach": lambda: attach(asked.rounds, asked.seconds),
        "watched": lambda: watched(asked.data_dir, asked.rounds, asked.seconds / 3),
    }
    print(f"{'figure':<58} {'median':>10} {'least':>9} {'most':>9}   limit")
    for part in asked.parts or measure:
        measure[part]()


def row(figure: str, values: Sequence[float], unit: str, limit: str) -> None:
    """Print a figure."""
    median, least, most = statistics.median(values), min(values), max(values)
    print(f"{figure:<58} {median:>10,.3g} {least:>9,.3g} {most:>9,.3g}   {limit} {unit}", flush=True)


def first_screen(rounds: int) -> None:
    """Time from the shell to the first screen that can be read, in turn with the bare program's."""
    for columns, rows in _SIZES:
        ours, bare = [], []
        with tempfile.TemporaryDirectory() as runs_dir:
            for number in range(rounds + 1):
                with Terminal(_CIFARTUI, columns, rows, {"CIFARTUI_RUNS": runs_dir}) as terminal:
                    seen = terminal.shown_within(
                        lambda text: "basenet" in text and "demo" in text and "? help" in text, _STARTED_S
                    )
                    ours.append(seen - terminal.started)
                with Terminal([sys.executable, "-m", "benchmarks.bare"], columns, rows) as terminal:
                    seen = terminal.shown_within(lambda text: "hello" in text and "row 1" in text, _STARTED_S)
                    bare.append(seen - terminal.started)
                if not number:  # the first one warms the caches
                    ours.clear(), bare.clear()
        row(f"first screen, {columns}×{rows}", ours, "s", "≤ 0.35")
        row(
            f"first screen / bare Textual, {columns}×{rows}",
            [a / b for a, b in zip(ours, bare, strict=True)],
            "",
            "≤ 1.6",
        )


def live(data_dir: str | None, seconds: float) -> None:
    """Bytes, CPU and memory of a dashboard on a run that trains."""
    with _training(data_dir) as run:
        for (columns, rows), limit in zip(_SIZES, ("≤ 1.0", "≤ 2.2"), strict=True):
            with _attached(run, columns, rows) as terminal:
                terminal.listen(_SETTLED_S)
                rate, cpu, rss = _watch(terminal, seconds)
            row(f"bytes to the terminal, {columns}×{rows}", [rate / 1000], "kB/s", limit)
            row(f"CPU of the dashboard, {columns}×{rows}", [100 * cpu], "% of a core", "≤ 5")
            row(f"memory of the dashboard, {columns}×{rows}", [rss / 1e6], "MB", "≤ 80")


def keys(data_dir: str | None) -> None:
    """Time from a key to what it shows, while all cores train."""
    said = ("smoothing 0.9", "no smoothing", "smoothing 0.6")
    with _training(data_dir) as run, _attached(run, 160, 45) as terminal:
        terminal.listen(_SETTLED_S)
        delays = []
        for number in range(_NUM_KEYS):
            pressed = terminal.press("m")
            seen = terminal.wait_for(lambda text, wanted=said[number % 3]: wanted in text)  # type: ignore[misc]
            delays.append(1000 * (seen - pressed))
            terminal.listen(0.11 + 0.017 * (number % 7))
    row(f"key to reaction, {_NUM_KEYS} keys, 160×45", delays, "ms", "≤ 50")
    row("key to reaction, 99th percentile", [statistics.quantiles(delays, n=100)[98]], "ms", "≤ 150")


def attach(rounds: int, seconds: float) -> None:
    """Time to the complete curves of a very long run, and what following it costs beside a short one."""
    with tempfile.TemporaryDirectory() as folder:
        finished = write_long_run(Path(folder), "finished", epochs=700, num_reports=500_000, is_finished=True)
        times, sizes = [], []
        for _ in range(rounds + 1):
            with _attached(finished, 160, 45) as terminal:
                seen = terminal.shown_within(
                    lambda text: "completed" in text.lower() and "◆ best" in text and "700 epochs" in text,
                    _READ_S,
                )
                times.append(seen - terminal.started)
                sizes.append(terminal.process.memory_info().rss / 1e6)
        row("attach to 700 epochs, 500,000 reports: curves", times[1:], "s", "≤ 1.0")
        row("the same, of a run without a fold, as one copied", times[:1], "s", "≤ 3.0")
        row("attach to 700 epochs, 500,000 reports: memory", sizes, "MB", "≤ 150")
        costs = []
        for name, epochs, num_reports in (("short", 14, 5_000), ("long", 690, 493_000)):
            run = write_long_run(Path(folder), name, epochs=epochs, num_reports=num_reports, is_finished=False)
            feeder = subprocess.Popen([sys.executable, "-m", "benchmarks.long_run", str(run.path)])
            try:
                with _attached(run, 160, 45) as terminal:
                    terminal.listen(_SETTLED_S)
                    costs.append(_watch(terminal, seconds / 3)[1])
            finally:
                feeder.kill()
                feeder.wait()
        row("following a long run / a short one, CPU", [costs[1] / costs[0]], "", "≈ 1")


def watched(data_dir: str | None, rounds: int, seconds: float) -> None:
    """Training throughput with a dashboard at 160×45 beside it and without, in turn."""
    with _training(data_dir) as run:
        ratios = []
        alone = _images_per_s(run, seconds)
        for _ in range(rounds):
            with _attached(run, 160, 45) as terminal:
                terminal.listen(_SETTLED_S)
                began = time.time()
                terminal.listen(seconds)
                beside = _rate_between(run, began, time.time())
            again = _images_per_s(run, seconds)
            ratios.append(beside / ((alone + again) / 2))
            alone = again
    row("training throughput, watched / unwatched", ratios, "", "≥ 0.97")


def _watch(terminal: Terminal, seconds: float) -> tuple[float, float, int]:
    """Return bytes a second, CPU as a share of a core, and resident bytes at the end."""
    process = terminal.process
    before, began = process.cpu_times(), time.perf_counter()
    num_bytes = terminal.listen(seconds)
    passed, after = time.perf_counter() - began, process.cpu_times()
    cpu = (after.user + after.system - before.user - before.system) / passed
    return num_bytes / passed, cpu, process.memory_info().rss


def _images_per_s(run: RunDir, seconds: float) -> float:
    began = time.time()
    time.sleep(seconds)
    return _rate_between(run, began, time.time())


def _rate_between(run: RunDir, began: float, ended: float) -> float:
    """Return images a second of training proper, from the journal: validation and checkpoints left out."""
    events = [event for event in read_events(run.events) if isinstance(event, StepsTrained | EpochCompleted)]
    num_images, passed = 0, 0.0
    for before, event in pairwise(events):
        if (
            isinstance(event, StepsTrained)
            and isinstance(before, StepsTrained)
            and began < before.time
            and event.time < ended
        ):
            num_images, passed = num_images + event.num_images, passed + event.time - before.time
    return num_images / passed


@contextmanager
def _training(data_dir: str | None) -> Iterator[RunDir]:
    """A run that trains until the end of the block."""
    has_cifar = locate(Data(dataset="cifar100"), data_dir).kind != "absent"
    with tempfile.TemporaryDirectory() as runs_dir:
        command = [*_CIFARTUI, "--runs-dir", runs_dir, *(["--data-dir", data_dir] if data_dir else []), "train"]
        preset = "basenet" if has_cifar else "demo"
        subprocess.run([*command, preset, "--epochs", "500", "--detach"], check=True, stdout=subprocess.DEVNULL)
        run = list_runs(Path(runs_dir))[0]
        while not run.read_state().steps:
            time.sleep(0.2)
        try:
            yield run
        finally:
            subprocess.run(
                [*_CIFARTUI, "--runs-dir", runs_dir, "abort", run.id], check=False, stdout=subprocess.DEVNULL
            )
            while run.worker_lives():
                time.sleep(0.1)


def _attached(run: RunDir, columns: int, rows: int) -> Terminal:
    return Terminal([*_CIFARTUI, "attach", run.id, "--runs-dir", str(run.path.parent)], columns, rows)


if __name__ == "__main__":
    main()
