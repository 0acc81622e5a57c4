"""Accuracy of a preset: trains it with several seeds through the command line and prints mean ± std.

python -m benchmarks.accuracy basenet --seeds 3 [--data-dir DIR] [--set KEY=VALUE]... [--epochs N]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--runs-dir", type=Path, help="keep the runs here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [_train(asked, seed, asked.runs_dir or Path(temporary)) for seed in range(asked.seeds)]
    print(f"\n{asked.preset} {' '.join(asked.overrides)} on {processor()}, {rows[0]['device']}")
    print(f"{'seed':>4}  {'val %':>6}  {'test %':>6}  {'images/s':>9}  {'s/epoch':>8}")
    for row in rows:
        print(
            f"{row['seed']:>4}  {row['val'] * 100:>6.2f}  {row['test'] * 100:>6.2f}"
            f"  {row['images_per_s']:>9,.0f}  {row['seconds_per_epoch']:>8.2f}"
        )
    for name in ("val", "test"):
        values = [row[name] * 100 for row in rows]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        print(f"{name} top-1: {statistics.mean(values):.2f}{spread} % (n = {len(values)})")


def _train(asked: argparse.Namespace, seed: int, runs_dir: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "cifartui", "--runs-dir", str(runs_dir)]
    command += ["--data-dir", asked.data_dir] if asked.data_dir else []
    command += ["train", asked.preset, "--seed", str(seed), "--output", "json"]
    command += ["--epochs", str(asked.epochs)] if asked.epochs else []
    for override in asked.overrides:
        command += ["--set", override]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    events = [json.loads(line) for line in output.splitlines()]
    epochs = [event for event in events if event["type"] == "EpochCompleted"]
    started = next(event for event in events if event["type"] == "RunStarted")
    end = events[-1]
    rates = [event["images_per_s"] for event in events if event["type"] == "StepsTrained"]
    return {
        "seed": seed,
        "val": end["best_val_top1"],
        "test": end["test_top1"],
        "images_per_s": statistics.median(rates),
        "seconds_per_epoch": statistics.median(event["seconds"] for event in epochs),
        "device": f"{started['device']} {started['precision']}, {started['num_threads']} threads",
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
