"""Speed of the engine: `cifartui train` beside the loops that people write by hand.

python -m benchmarks.engine_speed [basenet] [vgg-custom] [--rounds 5] [--seconds 6] [--lightning DIR]

Every round trains with each loop in turn, in a process of its own, so that whatever else the machine does meets
all of them alike. The engine runs as users run it: worker, journal, telemetry, and a command line that follows;
its images/s are what its journal says. Needs CIFAR-100 (CIFARTUI_DATA). Lightning is compared where it can be
imported, or is found in DIR (`pip install --target DIR lightning`).
"""

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.accuracy import processor
from benchmarks.loops import NETWORKS
from engine.journal.commands import Abort
from engine.journal.events import AnyEvent, RunFinished, RunStarted, StepsTrained
from engine.journal.jsonl import append_command, event_reader
from engine.runs.run_dir import RunDir


class Asked(NamedTuple):
    """Seconds of training that are not counted, and that are; where Lightning is, if anywhere of its own."""

    warm_up_s: float
    seconds: float
    lightning: str | None


class Engine:
    """`cifartui train`, looked at through its journal and ended by command."""

    def __init__(self, network: str, asked: Asked) -> None:
        self._preset, overrides = NETWORKS[network]
        self._overrides = [word for override in overrides for word in ("--set", override)]
        self._asked = asked
        self.precision = ""

    def __call__(self) -> float:
        with tempfile.TemporaryDirectory() as runs_dir:
            command = [sys.executable, "-m", "cifartui", "--runs-dir", runs_dir, "train", self._preset]
            command += [*self._overrides, "--device", "cpu", "--output", "lines"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                run = _wait_for_run(Path(runs_dir), process)
                try:
                    return self._measure(run, process)
                finally:
                    append_command(run.commands, Abort())
                    process.wait()

    def _measure(self, run: RunDir, process: "subprocess.Popen[bytes]") -> float:
        reader, began, num_images, seconds = event_reader(run.events), 0.0, 0, 0.0
        while seconds < self._asked.seconds:
            if process.poll() is not None:
                raise SystemExit(f"cifartui train ended early; see {run.log}")
            for event in reader.read():
                began = self._note(event, began)
                if isinstance(event, StepsTrained) and event.time - began >= self._asked.warm_up_s:
                    num_images += event.num_images
                    seconds += event.num_images / event.images_per_s
            time.sleep(0.2)
        return num_images / seconds

    def _note(self, event: AnyEvent, began: float) -> float:
        """Return when training began, as far as is known after `event`."""
        if isinstance(event, RunStarted):
            self.precision = event.precision
        elif isinstance(event, RunFinished):
            raise SystemExit(f"The run ended before enough was measured: {event.reason}")
        return event.time if isinstance(event, StepsTrained) and not began else began


def _wait_for_run(runs_dir: Path, process: "subprocess.Popen[bytes]") -> RunDir:
    while process.poll() is None:
        for path in runs_dir.iterdir():
            if (path / "events.jsonl").exists():
                return RunDir(path)
        time.sleep(0.02)
    raise SystemExit("cifartui train did not start a run")


class Loop:
    """A loop of `benchmarks.loops`."""

    def __init__(self, kind: str, network: str, asked: Asked, *more: str) -> None:
        times = ["--seconds", str(asked.seconds), "--warm-up", str(asked.warm_up_s)]
        self._command = [sys.executable, "-m", "benchmarks.loops", kind, network, *times, *more]
        path = [
            os.environ.get("PYTHONPATH", ""),
            *([asked.lightning] if kind == "lightning" and asked.lightning else []),
        ]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}

    def __call__(self) -> float:
        done = subprocess.run(self._command, env=self._environment, check=True, stdout=subprocess.PIPE, text=True)
        return float(done.stdout.split()[-1])


def compare(network: str, asked: Asked, rounds: int) -> None:
    """Measure a network, and print its table."""
    engine = Engine(network, asked)
    first = engine()  # which also tells in what precision the bare loop has to compete
    kinds: dict[str, Callable[[], float]] = {
        "engine": engine,
        f"bare loop, {engine.precision}": Loop("bare", network, asked, "--precision", engine.precision),
        "report's loop, fp32": Loop("report", network, asked),
        "report's loop, fp32, 2 loader processes": Loop("report", network, asked, "--workers", "2"),
    }
    has_lightning = asked.lightning is not None or importlib.util.find_spec("lightning") is not None
    if has_lightning:
        kinds["Lightning's Trainer, fp32"] = Loop("lightning", network, asked)
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind, measure in kinds.items():
            rates[kind].append(first if kind == "engine" and number == 0 else measure())
            print(f"round {number + 1}  {kind:<40} {rates[kind][-1]:>9,.0f}", file=sys.stderr, flush=True)
    _print_table(network, engine.precision, rates)
    if not has_lightning:
        print("Lightning's Trainer: not installed")


def _print_table(network: str, precision: str, rates: dict[str, list[float]]) -> None:
    rounds = len(rates["engine"])
    print(
        f"\n{network}, {precision} in the engine; images/s, median of {rounds} alternating rounds (lowest to highest)"
    )
    for kind, values in rates.items():
        ratio = statistics.median(own / other for own, other in zip(rates["engine"], values, strict=True))
        against = "" if kind == "engine" else f"   engine ×{ratio:.2f}"
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"{kind:<40} {statistics.median(values):>9,.0f}  {spread:<22}{against}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; all without any")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of training that count, of every loop and round")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds of training before that")
    parser.add_argument("--lightning", metavar="DIR", help="where Lightning is, if not among what is installed")
    asked = parser.parse_args()
    if unknown := set(asked.networks) - set(NETWORKS):
        parser.error(f"no network {', '.join(unknown)} is measured; there are {', '.join(NETWORKS)}")
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{processor()}, {torch.get_num_threads()} threads, {versions}")
    for network in asked.networks or NETWORKS:
        compare(network, Asked(asked.warm_up, asked.seconds, asked.lightning), asked.rounds)


if __name__ == "__main__":
    main()
