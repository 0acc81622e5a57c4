"""Speed-up by computing a frozen backbone's features once: the same training with and without, side by side.

python -m benchmarks.frozen [--images 600] [--size 64] [--epochs 10] [--rounds 1]

Both runs train a new last layer on ResNet-50 (random weights: speed does not depend on them; the last
BatchNorm of every block at 0, which keeps features of an untrained network from growing without bound)
through the worker, journal and all. The one without caching has a flip that never flips, which counts as augmentation
and changes no image, so both must end with the same weights. Time is from StageStarted to RunFinished.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models.resnet import Bottleneck, ResNet

from engine.journal.events import StageStarted
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir

_PRESET = """
title = "Frozen backbone"
data = {{ dataset = "class-folders", path = "{path}", image_size = {size}, normalize = "half" }}
model = {{ network = "resnet50", frozen = true, weights = "{weights}" }}
train = {{ epochs = {epochs}, batch_size = 8, precision = "fp32", augment = [{augment}] }}
optimizer = {{ name = "sgd", lr = 0.01, momentum = 0.9 }}
"""
_FLIP_NOTHING = '{ op = "horizontal-flip", p = 0.0 }'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1, help="alternating pairs of runs")
    asked = parser.parse_args()
    seconds: dict[str, list[float]] = {"cached": [], "every time": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_images(folder / "images", asked.images, asked.size)
        torch.manual_seed(0)
        backbone = ResNet(Bottleneck, [3, 4, 6, 3], zero_init_residual=True)
        torch.save(backbone.state_dict(), folder / "weights.pt")
        for number in range(asked.rounds):
            heads = {}
            for name, augment in (("cached", ""), ("every time", _FLIP_NOTHING)):
                preset = folder / f"{name.replace(' ', '-')}.toml"
                preset.write_text(
                    _PRESET.format(
                        path=folder / "images",
                        weights=folder / "weights.pt",
                        size=asked.size,
                        epochs=asked.epochs,
                        augment=augment,
                    )
                )
                run = _train(preset, folder / f"runs-{number}-{preset.stem}")
                seconds[name].append(_seconds(run))
                heads[name] = torch.load(run.last, weights_only=True)["network"]["fc.weight"]
            largest = float((heads["cached"] - heads["every time"]).abs().max())
    print(
        f"ResNet-50 frozen, {asked.images} images at {asked.size} px, {asked.epochs} epochs, batch 8, fp32 on the CPU"
    )
    for name, values in seconds.items():
        print(f"features computed {name:<11} {statistics.median(values):7.1f} s (n = {len(values)})")
    ratio = statistics.median(seconds["every time"]) / statistics.median(seconds["cached"])
    print(f"{ratio:.1f} times as fast; largest difference between the two heads' weights: {largest:.1e}")


def _write_images(folder: Path, num_train: int, size: int) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", num_train), ("val", num_train // 10), ("test", num_train // 10)):
        for number in range(count):
            path = folder / split / f"class-{number % 10}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


def _train(preset: Path, runs_dir: Path) -> RunDir:
    command = [sys.executable, "-m", "cifartui", "--runs-dir", str(runs_dir), "train", str(preset)]
    subprocess.run([*command, "--device", "cpu", "--output", "quiet"], check=True)
    return RunDir(next(runs_dir.iterdir()))


def _seconds(run: RunDir) -> float:
    events = read_events(run.events)
    began = next(event.time for event in events if isinstance(event, StageStarted))
    return events[-1].time - began


if __name__ == "__main__":
    main()
