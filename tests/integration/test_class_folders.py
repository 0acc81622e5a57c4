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


def train_demo(cifartui: Callable[..., CompletedProcess[str]], folder: Path, *more: str) -> None:
    small = ("--epochs", "1", "--set", "train.batch_size=8", "--device", "cpu", "--output", "quiet")
    result = cifartui("train", "demo", "--data", str(folder), *small, *more)
    assert result.returncode == 0, result.stderr


def write_classes(folder: Path, num_images: int = 20) -> None:
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        for number in range(num_images):
            bird_files.save(folder / name / f"{number:02}.png", colour, (32, 32))


def test_without_a_test_part_the_run_is_judged_on_val_and_says_so(
    cifartui: Callable[..., CompletedProcess[str]], runs_dir: Path, tmp_path: Path
) -> None:
    write_classes(tmp_path / "mine")
    train_demo(cifartui, tmp_path / "mine")
    (run,) = list_runs(runs_dir)
    state = run.read_state()
    assert state.data is not None
    assert state.finished is not None
    assert (state.data.num_train + state.data.num_val, state.data.num_test) == (40, 0)
    assert (state.finished.outcome, state.finished.test_top1, state.finished.test_loss) == ("completed", None, None)
    assert any("no test part: the run is judged on its validation images" in alert.text for alert in state.alerts)
    shown = cifartui("show", "latest").stdout
    assert "no test part: the run is judged on its validation images" in shown
    assert f"{state.data.num_train} train, {state.data.num_val} val, no test part" in shown
    assert " no part " in cifartui("runs").stdout
    assert json.loads(cifartui("runs", "--json").stdout)[0]["has_test"] is False
    assert " no part " in cifartui("compare", "latest").stdout

    measured = cifartui("evaluate", "latest", "--device", "cpu").stdout
    assert "There is no test part: the run is judged on its validation images.\n" in measured
    assert f"on {state.data.num_val} val images: top-1" in measured
    for wanted in (("--split", "test"), ("--submission", str(tmp_path / "x.csv"))):
        refused = cifartui("evaluate", "latest", "--device", "cpu", *wanted)
        assert (refused.returncode, "has no test part" in refused.stderr) == (2, True)
    assert not (tmp_path / "x.csv").exists()
    short = ("--steps", "20", "--set", "train.batch_size=8", "--device", "cpu", "--output", "quiet")
    tested = cifartui("lr-find", "demo", "--data", str(tmp_path / "mine"), *short)
    assert tested.returncode == 0, tested.stderr


def test_a_range_test_does_not_say_by_what_it_is_judged(
    cifartui: Callable[..., CompletedProcess[str]], runs_dir: Path, tmp_path: Path
) -> None:
    write_classes(tmp_path / "mine")
    small = ("--set", "train.batch_size=8", "--steps", "20", "--device", "cpu")
    result = cifartui("lr-find", "demo", "--data", str(tmp_path / "mine"), *small)
    assert result.returncode == 0, result.stderr
    (run,) = list_runs(runs_dir)
    state = run.read_state()
    assert state.data is not None
    assert state.data.num_test == 0
    said = [*state.data.notices, *(alert.text for alert in state.alerts)]
    assert not any("test part" in text for text in said)
    assert "judged" not in cifartui("show", "latest").stdout + result.stdout


def test_a_submission_of_image_files_has_a_row_for_every_file(
    cifartui: Callable[..., CompletedProcess[str]], runs_dir: Path, tmp_path: Path
) -> None:
    write_classes(tmp_path / "mine/train", 40)
    for name, colour in (("b.png", (250, 0, 0)), ("a, c.png", (0, 0, 250)), ("9.png", (0, 0, 250))):
        bird_files.save(tmp_path / "mine/test" / name, colour, (32, 32))
    (tmp_path / "mine/train/blue/00.png").unlink()  # so that red is the most frequent class
    (tmp_path / "mine/test/broken.png").write_bytes(b"")
    train_demo(cifartui, tmp_path / "mine", "--set", "train.epochs=3")
    (run,) = list_runs(runs_dir)
    state = run.read_state()
    assert (state.data.num_test, state.finished.test_top1) == (3, None)  # type: ignore[union-attr]
    path = tmp_path / "submission.csv"
    result = cifartui("evaluate", "latest", "--submission", str(path), "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert "The test images have no labels, so there is no test accuracy.\n" in result.stdout
    assert "1 of 4 test images without labels cannot be read" in result.stdout
    said = f"4 predictions are in {path}. test/broken.png cannot be read and stands as "
    assert said in result.stdout
    rows = path.read_text().splitlines()
    assert rows[0] == '"file","label"'
    assert [row.rpartition(',"')[0] for row in rows[1:]] == ['"9.png"', '"a, c.png"', '"b.png"', '"broken.png"']
    assert all(row.endswith((',"red"', ',"blue"')) for row in rows[1:])


@pytest.mark.real_data
def test_photographs_in_an_archive_are_trained_on_as_they_are(
    cifartui: Callable[..., CompletedProcess[str]], cifar100_dir: Path, runs_dir: Path
) -> None:
    train_demo(cifartui, cifar100_dir / "ants-bees.tar")
    (run,) = list_runs(runs_dir)
    state = run.read_state()
    assert state.data is not None
    assert (state.data.num_train, state.data.num_val, state.data.num_test) == (245, 153, 0)
    assert state.data.source == str(cifar100_dir / "ants-bees.tar")
    assert [alert.text for alert in state.alerts if alert.kind == "data"] == [
        "There is no test part: the run is judged on its validation images."
    ]


@pytest.mark.parametrize("num_broken", [3, 12])
def test_a_run_lists_all_images_that_cannot_be_read_in_its_folder(
    cifartui: Callable[..., CompletedProcess[str]], runs_dir: Path, tmp_path: Path, num_broken: int
) -> None:
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        for number in range(20):
            bird_files.save(tmp_path / "mine" / name / f"{number:02}.png", colour)
    broken = [f"red/{number:02}.png" for number in range(num_broken)]
    for name in broken:
        (tmp_path / "mine" / name).write_bytes(b"")
    options = ("--data", str(tmp_path / "mine"), "--epochs", "1", "--set", "train.batch_size=4", "--device", "cpu")
    result = cifartui("train", "demo", *options)
    (run,) = list_runs(runs_dir)
    assert run.unreadable.read_text() == "".join(f"{name}\tempty\n" for name in broken)
    state = run.read_state()
    told = [alert.text for alert in state.alerts] if num_broken == 3 else [result.stdout + result.stderr]
    where = f"The {num_broken} images that cannot be read are listed in unreadable.txt in the run's folder"
    assert any(where in text for text in told), told
    assert (result.returncode == 0) == (num_broken == 3)
