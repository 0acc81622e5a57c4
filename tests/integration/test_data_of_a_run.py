"""A run knows its data: renamed, grown and moved class folders between two commands."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import pytest
import torch
import torchvision
from PIL import Image

from engine.journal.data_record import without_sizes
from engine.journal.events import Alerted, BestMeasured, DataReady
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir, list_runs
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import data_of
from tests import bird_files

Cifartui = Callable[..., CompletedProcess[str]]
COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
ACCEPT = "--accept-changed-data"
SIZES = {"train": 20, "val": 4, "test": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        for part, count in SIZES.items():
            for number in range(count):
                bird_files.save(tmp_path / "mine" / part / name / f"{number:02}.png", colour)
    return tmp_path / "mine"


@pytest.fixture
def run(cifartui: Cifartui, runs_dir: Path, folder: Path) -> RunDir:
    options = ("--epochs", "2", "--set", "train.batch_size=4", "--set", "schedule.name=cosine", "--device", "cpu")
    done = cifartui("train", "demo", "--data", str(folder), *options)
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(runs_dir)
    return run


def renamed(folder: Path, old: str, new: str) -> None:
    for part in SIZES:
        (folder / part / old).rename(folder / part / new)


def mnist_files(folder: Path) -> None:
    """Write 60 training and 20 test images of ten digits as MNIST's files are."""
    folder.mkdir(parents=True)
    for part, number in (("train", 60), ("t10k", 20)):
        images = bytes((row * 7 + place) % 256 for row in range(number) for place in range(784))
        labels = bytes(row % 10 for row in range(number))
        for name, shape, content in (("images-idx3", (number, 28, 28), images), ("labels-idx1", (number,), labels)):
            header = bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(header + content)


def evaluated(cifartui: Cifartui, *options: str) -> dict[str, object]:
    done = cifartui("evaluate", "latest", "--device", "cpu", "--json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_class_that_is_renamed_is_refused_and_one_that_is_gone_keeps_the_others_right(
    cifartui: Cifartui, run: RunDir, folder: Path
) -> None:
    whole = evaluated(cifartui)
    assert whole["notices"] == []
    renamed(folder, "green", "verdant")
    for command in (("evaluate", "latest"), ("evaluate", "latest", "--checkpoint", "last")):
        refused = cifartui(*command, "--device", "cpu")
        assert refused.returncode == 2
        assert 'has the class "verdant", for which the weights were not trained, and not "green"' in refused.stderr
    refused = cifartui("resume", "latest", "--epochs", "+1", ACCEPT)
    assert refused.returncode == 1
    assert 'the class "verdant", for which the weights were not trained' in refused.stdout + refused.stderr

    renamed(folder, "verdant", "green")
    for part in SIZES:  # without the first class, each of the others has another index
        shutil.rmtree(folder / part / "blue")
    others = evaluated(cifartui)
    hits = {score["name"]: score["hits"] for score in whole["classes"]}  # type: ignore[attr-defined]
    found = {score["name"]: score["hits"] for score in others["classes"]}  # type: ignore[attr-defined]
    assert found == {name: hits[name] for name in ("red", "green")}
    missing, notice = others["notices"]  # type: ignore[misc]
    assert missing == f'{folder} has no images of the class "blue", for which the weights were trained.'
    assert "is not what the weights were trained with: 40 training images, not 60" in notice


def test_data_that_grew_is_shown_and_needs_a_word_once(cifartui: Cifartui, run: RunDir, folder: Path) -> None:
    for number in range(20, 30):
        bird_files.save(folder / "train" / "red" / f"{number}.png", COLOURS["red"])
    bird_files.save(folder / "val" / "red" / "9.png", COLOURS["red"])
    refused = cifartui("resume", "latest", "--epochs", "4")
    assert refused.returncode == 1
    said = "has changed since the last checkpoint of this run: 70 training images, not 60, 13 validation images, not 12"
    assert said in refused.stdout + refused.stderr
    assert f"cifartui resume {run.id} {ACCEPT}" in refused.stdout + refused.stderr
    (error,) = (event for event in read_events(run.events) if isinstance(event, Alerted) and event.severity == "error")
    assert error.changes == (ACCEPT,)

    accepted = cifartui("resume", "latest", ACCEPT)
    assert accepted.returncode == 0, accepted.stderr
    assert "Training goes on with data that has changed" in accepted.stdout
    events = read_events(run.events)
    assert sum(isinstance(event, BestMeasured) for event in events) == 1
    records = [event.record for event in events if isinstance(event, DataReady)]
    state = run.read_state()
    assert (state.phase, state.epoch, state.global_step) == ("completed", 4, 2 * 15 + 2 * 18)
    trained = data_of(checkpoint_files.load(run.last))
    assert trained is not None
    assert without_sizes(trained) == records[-1] != records[0]

    again = cifartui("resume", "latest", "--epochs", "5")
    assert again.returncode == 0, again.stderr
    assert sum(isinstance(event, BestMeasured) for event in read_events(run.events)) == 1


def test_an_image_that_took_the_place_of_another_is_noticed_by_its_size(
    cifartui: Cifartui, run: RunDir, folder: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    with zipfile.ZipFile(tmp_path / "copy.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    for same in (copied, tmp_path / "copy.zip"):
        assert evaluated(cifartui, "--data", str(same))["notices"] == []
    for number in range(2):
        Image.new("RGB", (50 + number, 40), (9, number, 200)).save(copied / f"train/red/0{number}.png")
    Image.new("RGB", (77, 40), (9, 99, 200)).save(copied / "val/red/00.png")
    (notice,) = evaluated(cifartui, "--data", str(copied))["notices"]  # type: ignore[misc]
    replaced = "2 training images were replaced (same names, other sizes), 1 validation image was replaced"
    assert replaced in notice
    refused = cifartui("resume", "latest", "--epochs", "3", "--data", str(copied))
    assert refused.returncode == 1
    assert replaced in refused.stdout + refused.stderr
    accepted = cifartui("resume", "latest", "--data", str(copied), ACCEPT)
    assert accepted.returncode == 0, accepted.stderr
    assert sum(isinstance(event, BestMeasured) for event in read_events(run.events)) == 1
    assert evaluated(cifartui, "--checkpoint", "last")["notices"] == []  # best.pt may be older than the data


def test_a_checkpoint_without_sizes_is_not_compared_by_them(cifartui: Cifartui, run: RunDir, folder: Path) -> None:
    for path in (run.last, run.best, run.checkpoints / "last.prev.pt"):
        content = checkpoint_files.load(path)
        record = data_of(content)
        assert record is not None
        assert record != without_sizes(record)
        content["data"] = msgspec.to_builtins(without_sizes(record))
        for split in content["data"]["splits"].values():
            del split["sizes"]  # as a version without them wrote it
        checkpoint_files.save(content, path)
    Image.new("RGB", (50, 40), (9, 9, 200)).save(folder / "train/red/00.png")
    done = cifartui("resume", "latest", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    saved = data_of(checkpoint_files.load(run.last))
    assert saved is not None
    assert saved.splits["train"].sizes


def test_data_that_moved_is_taken_if_it_is_the_same(
    cifartui: Cifartui, run: RunDir, folder: Path, tmp_path: Path
) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    lost = cifartui("resume", "latest", "--epochs", "3")
    assert lost.returncode == 2
    assert f"If the data of this run has moved: cifartui resume {run.id} --data PATH" in lost.stderr
    assert evaluated(cifartui, "--data", str(moved))["notices"] == []

    shutil.copytree(moved, tmp_path / "other")
    (tmp_path / "other/train/red/00.png").unlink()
    other = tmp_path / "other"
    refused = cifartui("resume", "latest", "--epochs", "3", "--data", str(other))
    assert refused.returncode == 1
    assert "59 training images, not 60" in refused.stdout + refused.stderr
    assert f"cifartui resume {run.id} --data {other} {ACCEPT}" in refused.stdout + refused.stderr
    (error,) = (event for event in read_events(run.events) if isinstance(event, Alerted) and event.severity == "error")
    assert error.changes == (ACCEPT, f"--data={other}")
    assert run.read_info().preset.data.path == str(folder)

    taken = cifartui("resume", "latest", "--data", str(moved))  # the refused one has left its epochs
    assert taken.returncode == 0, taken.stderr
    assert run.read_state().epoch == 3
    assert run.read_info().preset.data.path == str(moved)
    assert evaluated(cifartui)["num_images"] == 12


def test_what_has_a_checkpoint_needs_no_pretrained_weights(
    cifartui: Cifartui, runs_dir: Path, folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "pretrained.pt"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), weights)
    network = ("network=backbone", "name=squeezenet1_1", f"weights={weights}", "frozen=true")
    options = [word for key in network for word in ("--set", f"model.{key}")]
    options += ["--set", "data.image_size=32", "--set", "train.augment=[]", "--epochs", "1", "--device", "cpu"]
    done = cifartui("train", "demo", "--data", str(folder), *options)
    assert done.returncode == 0, done.stderr
    assert "50 of the network's 52 tensors are from pretrained.pt" in done.stdout
    before = evaluated(cifartui, "--split", "val")
    weights.unlink()
    assert evaluated(cifartui, "--split", "val") == before
    done = cifartui("resume", "latest", "--epochs", "+1")
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(runs_dir)
    assert [point.epoch for point in run.read_state().epochs] == [1, 2]


def test_a_run_of_a_version_without_records_goes_on_as_before(cifartui: Cifartui, run: RunDir, folder: Path) -> None:
    for path in (run.last, run.best, run.checkpoints / "last.prev.pt"):
        content = checkpoint_files.load(path)
        del content["data"]
        if path != run.best:
            del content["class_names"]
        checkpoint_files.save(content, path)
    (folder / "train/red/00.png").unlink()
    done = cifartui("resume", "latest", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert not any(isinstance(event, BestMeasured) for event in read_events(run.events))
    assert evaluated(cifartui)["notices"] == []


def test_a_run_goes_on_without_a_class_and_with_it_again(cifartui: Cifartui, run: RunDir, folder: Path) -> None:
    """Classes that cannot be mapped are refused each time, and spoil nothing for the resume that comes after."""
    aside = folder.parent / "aside"
    for part in SIZES:
        shutil.copytree(folder / part / "blue", aside / part)
        shutil.rmtree(folder / part / "blue")
    refused = cifartui("resume", "latest", "--epochs", "4")
    assert refused.returncode == 1
    assert "40 training images, not 60, 8 validation images, not 12, 8 test images, not 12" in refused.stdout
    fewer = cifartui("resume", "latest", ACCEPT)
    assert fewer.returncode == 0, fewer.stderr
    names = [event.record.class_names for event in read_events(run.events) if isinstance(event, DataReady)]
    assert {*names} == {("blue", "green", "red")}, "in the order of the weights"
    saved = data_of(checkpoint_files.load(run.last))
    assert saved is not None
    assert (saved.class_names, saved.splits["train"].num_images) == (("blue", "green", "red"), 40)

    for part in SIZES:
        shutil.copytree(aside / part, folder / part / "azure")
    refused = cifartui("resume", "latest", "--epochs", "5", ACCEPT)
    assert refused.returncode == 1
    assert 'has the class "azure", for which the weights were not trained, and not "blue"' in refused.stdout
    renamed(folder, "azure", "blue")
    whole = cifartui("resume", "latest", ACCEPT)
    assert whole.returncode == 0, whole.stderr
    state = run.read_state()
    assert (state.phase, state.epoch) == ("completed", 5)
    assert evaluated(cifartui)["notices"] == []
    assert sum(isinstance(event, BestMeasured) for event in read_events(run.events)) == 2


@pytest.mark.parametrize("overrides", [(), ("loss.class_weights=balanced", "data.sampler=balanced")])
def test_uneven_classes_one_of_which_goes(cifartui: Cifartui, folder: Path, overrides: tuple[str, ...]) -> None:
    for number in range(4, 20):
        (folder / f"train/red/{number:02}.png").unlink()
    changes = ("train.batch_size=4", "train.best_by=val_balanced", *overrides)
    options = [part for change in changes for part in ("--set", change)]
    done = cifartui("train", "demo", "--data", str(folder), "--epochs", "2", "--device", "cpu", *options)
    assert done.returncode == 0, done.stderr
    for part in SIZES:
        shutil.rmtree(folder / part / "red")
    done = cifartui("resume", "latest", "--epochs", "3", ACCEPT)
    assert done.returncode == 0, done.stderr
    assert "balanced" in done.stdout.splitlines()[-1]
    assert "nan" not in done.stdout


def test_a_report_takes_data_that_has_moved_and_no_other(
    cifartui: Cifartui, run: RunDir, folder: Path, tmp_path: Path
) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    page = tmp_path / "page.md"
    (moved / "val" / "red" / "99.png").write_bytes((moved / "val" / "red" / "00.png").read_bytes())
    others = cifartui("report", "latest", "--device", "cpu", "--output", str(page), "--data", str(moved))
    assert others.returncode == 2
    assert f"cannot stand for that of run {run.id}" in others.stderr
    assert not page.exists()
    assert not list(run.path.glob("predictions/*"))
    (moved / "val" / "red" / "99.png").unlink()
    asked = ("report", "latest", "--device", "cpu", "--output", str(page), "--no-paths")
    taken = cifartui(*asked, "--data", str(moved))
    assert taken.returncode == 0, taken.stderr
    text = page.read_text()
    assert "| validation | 12 |" in text
    assert "| test | 12 |" in text
    assert "have not been evaluated" not in text
    assert str(tmp_path) not in text
    printed = cifartui("evaluate", "latest", "--device", "cpu", "--data", str(moved), "--csv", "-")
    assert printed.stdout.startswith("class,images,predicted,right,")
    assert len(printed.stdout.splitlines()) == 1 + len(COLOURS)
    unnamed = cifartui("evaluate", "latest", "--device", "cpu", "--data", str(moved), "--png", "-")
    assert (unnamed.returncode, unnamed.stdout) == (2, "")
    assert "name a file" in unnamed.stderr
    nothing = cifartui(*asked, "--force", "--data", str(tmp_path / "nothing"))
    assert nothing.returncode == 0  # all is measured: the data is not asked for


def test_a_table_and_its_images_are_the_same_data_one_folder_deeper(
    cifartui: Cifartui, runs_dir: Path, tmp_path: Path
) -> None:
    names = [f"{colour}{number:02}.png" for colour in COLOURS for number in range(24)]
    for place in ("here", "there/deeper"):
        for name in names:
            bird_files.save(tmp_path / place / name, COLOURS[name[:-6]])
    for root in ("here", "there"):
        rows = "".join(f"{name},{name[:-6]}\n" for name in names)
        (tmp_path / root / "labels.csv").write_text(f"file,label\n{rows}")
    done = cifartui(
        "train", "demo", "--data", str(tmp_path / "here"), "--set", "data.labels=labels.csv", "--epochs", "1",
        "--set", "train.batch_size=8", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = cifartui("resume", "latest", "--data", str(tmp_path / "there"), "--epochs", "+1")
    assert again.returncode == 0, again.stderr
    (run,) = list_runs(runs_dir)
    assert run.read_state().epochs[-1].number == 2


def test_a_folder_that_holds_other_data_too_is_evaluated_as_it_was_trained_on(
    cifartui: Cifartui, folder: Path, runs_dir: Path
) -> None:
    mnist_files(folder.parent / "mixed" / "MNIST" / "raw")
    shutil.copytree(folder / "train", folder.parent / "mixed", dirs_exist_ok=True)
    for name in ("mnist", "class-folders"):
        done = cifartui(
            "train", "demo", "--data", str(folder.parent / "mixed"), "--set", f"data.dataset={name}", "--epochs", "1",
            "--set", "train.batch_size=8", "--set", "data.validation=0.2", "--device", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert evaluated(cifartui, "--data", str(folder.parent / "mixed"))
    refused = cifartui("train", "demo", "--data", str(folder.parent / "mixed"), "--device", "cpu")
    assert (refused.returncode, "holds MNIST" in refused.stderr) == (2, True)
    assert len(list_runs(runs_dir)) == 2
