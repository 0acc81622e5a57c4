"""Class folders: real CIFAR-100 written out is the same data; a run on one folder is evaluated on another one."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.load import load
from engine.runs import predictions
from engine.runs.run_dir import list_runs
from presets.schema import Data
from tests import bird_files

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


def test_a_run_is_evaluated_on_other_data(
    cifartui: Callable[..., CompletedProcess[str]], runs_dir: Path, tmp_path: Path
) -> None:
    for folder, num_test in (("mine", 2), ("others", 3)):
        for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
            for number in range(20 + num_test):
                part = "train" if number < 20 else "test"
                bird_files.save(tmp_path / folder / part / name / f"{number:02}.png", colour)
    data = ("--data", str(tmp_path / "mine"))
    result = cifartui("train", "demo", *data, "--epochs", "1", "--set", "train.batch_size=4", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    own = json.loads(cifartui("evaluate", "latest", "--json", "--device", "cpu").stdout)
    (run,) = list_runs(runs_dir)
    assert (own["num_images"], predictions.read(run, "test").data) == (4, None)  # type: ignore[union-attr]
    other = ("--data", str(tmp_path / "others"))
    found = json.loads(cifartui("evaluate", "latest", *other, "--json", "--device", "cpu").stdout)
    assert (found["num_images"], predictions.read(run, "test").data) == (6, other[1])  # type: ignore[union-attr]
    assert run.read_info().preset.data.path == data[1]
