"""Real CIFAR-100 written out as class folders is the same data as the archive."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.load import load
from presets.schema import Data

NUM_TRAIN, NUM_TEST = 2000, 500


@pytest.mark.real_data
def test_written_out_as_class_folders_it_is_the_same_data(cifar100_dir: Path, tmp_path: Path) -> None:
    archive = load(Data(dataset="cifar100"), str(cifar100_dir), 0, lambda event: None)
    wanted: dict[str, list[tuple[int, bytes]]] = {}
    for part, split, count in (("train", archive.train, NUM_TRAIN), ("test", archive.test, NUM_TEST)):
        for row in range(count):
            label, pixels = int(split.labels[row]), split.images[row].permute(1, 2, 0).contiguous().numpy()
            path = tmp_path / part / archive.class_names[label] / f"{row:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            wanted.setdefault(part, []).append((label, pixels.tobytes()))
    folders = load(
        Data(dataset="class-folders", path=str(tmp_path), validation=0.1), None, 0, lambda event: None
    )  # fmt: skip
    assert set(folders.class_names) == set(archive.class_names)
    found: dict[str, list[tuple[int, bytes]]] = {}
    for part, split in (("train", folders.train), ("train", folders.val), ("test", folders.test)):
        for label, image in zip(split.labels.tolist(), split.images, strict=True):
            name = folders.class_names[label]
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            found.setdefault(part, []).append((archive.class_names.index(name), pixels.tobytes()))
    for part, rows in wanted.items():
        assert sorted(found[part]) == sorted(rows)
    assert folders.train.images.dtype == torch.uint8
