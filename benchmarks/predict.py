"""`cifartui predict` on many small files, beside a plain torch loop: images/s, and peak memory.

python -m benchmarks.predict RUN [--images 10000] [--rounds 3] [--device auto]

RUN is a run on CIFAR-100 or CIFAR-10, whose test images are written here as PNG files into a temporary folder. In every
round, in turn, each in processes of its own: the command, with its lines going into a file; and the loop that one would
write (a DataLoader of two processes with PIL, the same network and transform, batches of the same size). Time is from
the start of the process to its end, so the import of torch counts, and is printed too for no more than one image. Peak
memory is that of the process and all of its children together (their resident memory, in which shared pages count
once a process), looked at twenty times a second. The files were just written, so the disk counts for nobody.
Medians, and lowest to highest.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import cifartui
from engine.data.image_decoders import usable_cpus
from engine.data.load import load
from engine.runs.find_run import find_model
from engine.runs.run_dir import RunDir, default_runs_dir

_LOADER_PROCESSES = 2
_LOOK_EVERY_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run on CIFAR-100 or CIFAR-10: an id, a part of one, latest, or its folder")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plain is not None:
        _plain_loop(asked.run, asked.plain, asked.device)
        return
    run = find_model(default_runs_dir(), asked.run)
    assert isinstance(run, RunDir)
    print(f"{usable_cpus()} CPUs, torch {torch.__version__}, {asked.images:,} images, run {run.id}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root, one = Path(temporary) / "images", Path(temporary) / "one"
        _write_images(root, str(run.path), asked.images)
        one.mkdir()
        (one / "0.png").hardlink_to(root / "000000.png")
        kinds = {
            "cifartui predict": ["-m", "cifartui", "predict", str(run.path), "--device", asked.device],
            "plain torch loop": ["-m", "benchmarks.predict", str(run.path), "--device", asked.device, "--plain"],
        }
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in kinds}
        for _ in range(asked.rounds):
            for name, command in kinds.items():
                start_s, _ = _measure([*command, str(one)])
                seconds, peak_bytes = _measure([*command, str(root)])
                found[name].append((seconds, start_s, peak_bytes))
        for name, rounds in found.items():
            whole, starts, peaks = zip(*rounds, strict=True)
            rates = [asked.images / seconds for seconds in whole]
            later = [asked.images / (seconds - start) for seconds, start in zip(whole, starts, strict=True)]
            print(
                f"{name}: {_spread(rates)} images/s with its start, {_spread(later)} without; start "
                f"{_spread(starts, 1)} s; peak memory {_spread([peak / 1e6 for peak in peaks])} MB"
            )


def _spread(values: Sequence[float], digits: int = 0) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _write_images(root: Path, run: str, num_images: int) -> None:
    """Write test images, again from the first where there are too few."""
    root.mkdir()
    preset = cifartui.load(run, device="cpu").preset
    data = load(preset.data, None, 0, lambda _: None)
    images = (data.test or data.val).images
    for number in range(num_images):
        pixels = images[number % len(images)].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / f"{number:06}.png")


def _measure(command: Sequence[str]) -> tuple[float, float]:
    """Run Python with a command line; return its seconds and the peak of its memory, children included, in bytes."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                tree = [watched, *watched.children(recursive=True)]
                peak = max(peak, sum(each.memory_info().rss for each in tree))
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.perf_counter() - started, peak


class _Files(Dataset[torch.Tensor]):
    """Images of a folder as uint8 [3, H, W], as PIL reads them."""

    def __init__(self, root: Path) -> None:
        self._paths = sorted(root.iterdir())

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self._paths[row]) as image:
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            return pixels.view(image.height, image.width, 3).permute(2, 0, 1)


def _plain_loop(run: str, root: Path, device: str) -> None:
    model = cifartui.load(run, device=device)
    transform, autocast = model._trained.transform, model._trained.autocast
    loader = DataLoader(_Files(root), batch_size=4 * model.preset.train.batch_size, num_workers=_LOADER_PROCESSES)
    with torch.inference_mode():
        for images in loader:
            with autocast():
                logits = model.network(transform(images.to(model.device)))
            for index in logits.argmax(1).tolist():
                print(model.classes[index])


if __name__ == "__main__":
    main()
