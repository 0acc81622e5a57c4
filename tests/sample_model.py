"""A run of a tiny network, kept in tests/data: today's format of run directories, which must load for ever.

`python -m tests.sample_model tests/data/run-VERSION` trains it anew, for another format. Runs that are kept are not
replaced: each version's is read by tests/unit/test_kept_runs.py.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PRESET = """
title = "Tiny"
summary = "A network of a few hundred parameters, with all that evaluation does to an image"

[data]
dataset = "class-folders"
image_size = 12
cache_size = 16
normalize = "half"
evaluate = [{ op = "resize", size = 14 }, { op = "center-crop" }]

[model]
network = "vgg"
blocks = [[4], [8]]
pools = ["max", "avg"]

[train]
epochs = 4
batch_size = 8
ema_decay = 0.9
flip_average = true
augment = [{ op = "horizontal-flip" }]
precision = "fp32"

[optimizer]
name = "adamw"
lr = 0.02
"""
CLASSES = ("blue", "green", "red")
NUM_TRAIN, NUM_VAL = 24, 20
KEPT = ("run.json", "events.jsonl", "checkpoints/best.pt", "checkpoints/last.pt")


def pixels(label: int, number: int) -> np.ndarray:  # type: ignore[type-arg]
    """Return an image uint8 [H, W, 3] of noise, a little more of one colour; H and W differ from image to image."""
    random = np.random.default_rng((label, number))
    height, width = (int(side) for side in random.integers(14, 40, 2))
    noise = random.integers(0, 200, (height, width, 3), dtype=np.uint8)
    noise[..., 2 - label] += np.uint8(random.integers(0, 30))
    return noise


def write_images(root: Path, num_train: int = NUM_TRAIN, num_val: int = NUM_VAL) -> Path:
    """Write so many images of each class into `train/` and `val/` of a folder, and return it."""
    for label, name in enumerate(CLASSES):
        for number in range(num_train + num_val):
            folder = root / ("train" if number < num_train else "val") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(label, number)).save(folder / f"{number:02}.png")
    return root


def keep(run: Path, kept: Path, hidden: dict[str, str]) -> None:
    """Copy what is read of a run, with names of this machine replaced."""
    for name in KEPT:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, kept / name)
    for name in ("run.json", "events.jsonl"):
        text = (kept / name).read_text(encoding="utf-8")
        for word, other in hidden.items():
            text = text.replace(word, other)
        (kept / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Train the network and keep its run."""
    kept = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        data, preset, runs = write_images(Path(folder) / "images"), Path(folder) / "tiny.toml", Path(folder) / "runs"
        preset.write_text(PRESET, encoding="utf-8")
        command = [sys.executable, "-m", "cifartui", "train", str(preset), "--data", str(data), "--device", "cpu"]
        subprocess.run(command, check=True, env={**os.environ, "CIFARTUI_RUNS": str(runs)})
        (run,) = runs.iterdir()
        here = str(Path(__file__).parents[1])
        keep(run, kept, {folder: "/home/somebody", here: "/opt", f'"{socket.gethostname()}"': '"machine"'})


if __name__ == "__main__":
    main()
