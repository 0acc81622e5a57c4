"""Start on folders of image files, the first time and the second, beside torchvision's ImageFolder.

python -m benchmarks.images [--small 20000] [--large 500] [--size 128] [--rounds 3]

Two data sets, both written here into a temporary folder: small JPEG files of 160×120, and photographs of 12 megapixels
(4000×3000). In every round, in turn: the engine decodes a data set into an empty cache (with as many processes as it
takes by itself), finds it decoded, and ImageFolder reads it with a DataLoader of two processes (resize of the shorter
side, centre crop, uint8 tensor, batches of 256). Time is from the call to the last image, with the listing of the
folder, the start of processes and one reading of every pixel; torch is imported by then. The files were just written,
so the disk counts for nobody. Medians, and lowest to highest.
"""

import argparse
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import datasets, transforms

from engine.data.image_decoders import usable_cpus
from engine.data.load import load
from presets.schema import Data

_CLASSES = 10
_LOADER_PROCESSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=20_000, help="JPEG files of 160×120")
    parser.add_argument("--large", type=int, default=500, help="photographs of 12 megapixels")
    parser.add_argument("--size", type=int, default=128, help="side in pixels that they are decoded to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write the files; default: a temporary folder")
    asked = parser.parse_args()
    print(f"{usable_cpus()} CPUs, Pillow {Image.__version__}, torch {torch.__version__}, {asked.size} px")
    kinds = (("small", asked.small, (160, 120)), ("large", asked.large, (4000, 3000)))
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        for name, num_images, (width, height) in kinds:
            if not num_images:
                continue
            root = Path(temporary) / name
            num_bytes = _write_images(root, num_images, width, height)
            print(f"\n{num_images:,} JPEG of {width}×{height}, {num_bytes / 1e6:,.0f} MB", flush=True)
            _compare(root, Path(temporary) / "cache", num_images, asked.size, asked.rounds)
            shutil.rmtree(root)


def _write_images(root: Path, num_images: int, width: int, height: int) -> int:
    """Write class folders of JPEG files; return their bytes. Up to 64 of them differ, the others are copies."""
    random = np.random.default_rng(0)
    contents = [_jpeg(random, width, height) for _ in range(min(64 if width < 1000 else 8, num_images))]
    for number in range(num_images):
        folder = root / "train" / f"class-{number % _CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06}.jpg").write_bytes(contents[number % len(contents)])
    return sum(len(contents[number % len(contents)]) for number in range(num_images))


def _jpeg(random: np.random.Generator, width: int, height: int) -> bytes:
    """Return a JPEG of soft shapes with some noise, of about as many bytes a pixel as a photograph has."""
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    shapes = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = shapes + random.integers(-12, 13, (height, width, 3), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def _compare(root: Path, cache: Path, num_images: int, size: int, rounds: int) -> None:
    os.environ["CIFARTUI_CACHE"] = str(cache)
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        shutil.rmtree(cache, ignore_errors=True)
        for name, work in (
            ("cifartui, first start", lambda: _engine(root, size)),
            ("cifartui, second start", lambda: _engine(root, size)),
            (f"ImageFolder, {_LOADER_PROCESSES} processes", lambda: _image_folder(root / "train", size)),
        ):
            seconds.setdefault(name, []).append(_timed(work, num_images, name))
    shutil.rmtree(cache, ignore_errors=True)
    theirs = statistics.median([*seconds.values()][-1])
    print(f"{'':<26}{'seconds':>24}{'images/s':>12}{'times ImageFolder':>20}")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        spread = f"{median:.2f} ({min(measured):.2f} to {max(measured):.2f})"
        print(f"{name:<26}{spread:>24}{num_images / median:>12,.0f}{theirs / median:>20.2f}")
    sys.stdout.flush()


def _timed(work: Callable[[], int], num_images: int, name: str) -> float:
    started = time.monotonic()
    found = work()
    if found != num_images:
        raise SystemExit(f"{name} read {found:,} of {num_images:,} images")
    return time.monotonic() - started


def _engine(root: Path, size: int) -> int:
    data = load(Data(dataset="class-folders", path=str(root), image_size=size), None, 0, lambda _event: None)
    for split in (data.train, data.val):
        split.images.max()  # every pixel is read, of a memory map too
    return len(data.train) + len(data.val)


def _image_folder(root: Path, size: int) -> int:
    steps = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(root), steps), batch_size=256, num_workers=_LOADER_PROCESSES
    )
    return sum(len(labels) for _, labels in loader)


if __name__ == "__main__":
    main()
