"""What predictions add up to, and the superclasses against the published data."""

import pickle
import tarfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.runs import predictions
from engine.runs.predictions import Confusion, Predictions, by_class, by_group, confusions, matching
from engine.runs.run_dir import RunDir
from engine.shared.cifar100_superclasses import CIFAR100
from presets.errors import CifartuiError

GROUPS = {"pets": ("cat", "dog"), "plants": ("oak",)}


def made(
    true: tuple[int, ...] | None, predicted: tuple[int, ...], names: tuple[str, ...] = ("cat", "dog", "oak")
) -> Any:
    return Predictions(
        run="r", split="test", checkpoint="best", epoch=1, global_step=1, class_names=names, image_size=1,
        true=true, predicted=predicted, confidence=(0.5,) * len(predicted),
    )  # fmt: skip


FOUND = made((0, 0, 0, 1, 2, 2), (0, 1, 2, 1, 2, 0))


def test_classes_are_scored_the_worst_first() -> None:
    assert [(score.name, score.num_images, score.hits) for score in by_class(FOUND)] == [
        ("cat", 3, 1), ("oak", 2, 1), ("dog", 1, 1),
    ]  # fmt: skip


def test_images_are_found_by_outcome_and_class_the_most_confident_first() -> None:
    found = msgspec.structs.replace(FOUND, confidence=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert matching(found, "wrong") == [5, 2, 1]
    assert matching(found, "right", "OAK") == [4]
    assert matching(found, "all", "do") == [3, 1]  # true or predicted
    hidden = made(None, (0, 1))
    assert matching(hidden, "wrong") == matching(hidden, "right") == [0, 1]


def test_groups_count_their_classes_and_themselves() -> None:
    scores = {score.name: (score.num_images, score.hits, score.group_hits) for score in by_group(FOUND, GROUPS)}
    assert scores == {"pets": (4, 2, 3), "plants": (2, 1, 1)}
    assert by_group(made((0,), (0,), ("fox",)), GROUPS) == []


def test_confusions_are_counted_by_direction() -> None:
    found = made((0, 0, 1, 2), (1, 1, 0, 2))
    assert confusions(found) == [
        Confusion(true="cat", predicted="dog", num_images=2), Confusion(true="dog", predicted="cat", num_images=1),
    ]  # fmt: skip
    assert len(confusions(found, most=1)) == 1


def test_hidden_labels_have_no_scores() -> None:
    hidden = made(None, (0, 1))
    assert by_class(hidden) == by_group(hidden, GROUPS) == confusions(hidden) == []


def test_ten_thousand_images_are_quick() -> None:
    names = tuple(name for group in CIFAR100.values() for name in group)
    many = made(tuple(row % 100 for row in range(10_000)), tuple(row * 7 % 100 for row in range(10_000)), names)
    started = time.perf_counter()
    assert len(by_class(many)) == 100
    assert len(by_group(many, CIFAR100)) == 20
    confusions(many)
    assert time.perf_counter() - started < 0.5


def test_predictions_are_stored_whole_and_read_back(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert predictions.read(run, "test") is None
    predictions.write(run, FOUND, b"123")
    assert predictions.read(run, "test") == FOUND
    text, pixels = predictions.paths(run, "test")
    assert pixels.read_bytes() == b"123"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (text, pixels, text.parent))
    text.write_text("{")
    with pytest.raises(CifartuiError, match="delete it"):
        predictions.read(run, "test")


@pytest.mark.real_data
def test_the_superclasses_are_those_of_the_published_data(cifar100_dir: Path) -> None:
    with tarfile.open(cifar100_dir / "cifar-100-python.tar.gz") as tar:
        rows, meta = (
            pickle.load(tar.extractfile(f"cifar-100-python/{name}"), encoding="latin1")  # type: ignore[arg-type]
            for name in ("test", "meta")
        )
    groups: dict[str, set[str]] = {}
    for fine, coarse in zip(rows["fine_labels"], rows["coarse_labels"], strict=True):
        groups.setdefault(meta["coarse_label_names"][coarse], set()).add(meta["fine_label_names"][fine])
    assert {name: set(classes) for name, classes in CIFAR100.items()} == groups
