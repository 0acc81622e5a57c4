"""The predictions file, whole, old, damaged; and the superclasses against the published data."""

import pickle
import tarfile
from pathlib import Path

import msgspec
import pytest

from engine.runs import predictions
from engine.runs.run_dir import RunDir
from engine.shared.cifar100_superclasses import CIFAR100
from presets.errors import CifartuiError
from tests.unit.test_scores import FOUND, ranked


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


def test_the_most_probable_classes_are_stored_at_the_size_that_the_guide_states(tmp_path: Path) -> None:
    run, found = RunDir(tmp_path), ranked(num_images=10_000, num_classes=100)
    predictions.write(run, found, b"")
    assert predictions.read(run, "test") == found
    assert 60 <= predictions.paths(run, "test")[0].stat().st_size / 10_000 <= 80


def test_a_file_of_a_version_that_kept_one_class_an_image_is_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    text, _ = predictions.paths(run, "test")
    text.parent.mkdir()
    text.write_text(
        '{"run":"r","split":"test","checkpoint":"best","epoch":1,"global_step":1,"class_names":["cat","dog","oak"],'
        '"image_size":1,"true":[0,1],"predicted":[0,2],"confidence":[0.5,1.0],"names":[],"unreadable":[],'
        '"most_frequent":0,"data":null}'
    )
    found = predictions.read(run, "test")
    assert found is not None
    assert (found.top, found.top_probability, found.confidence) == ((), (), (0.5, 1.0))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("confidence", "[null,0.5]"), ("confidence", "[NaN,0.5]"), ("confidence", "[1e400,0.5]"),
        ("confidence", "[1.5,0.5]"), ("confidence", "[-0.5,0.5]"),
        ("top", "[[0,1,2]]"), ("top", "[[0,1],[1,0]]"), ("top", "[[0,1,3],[1,0,2]]"), ("top", "[[1,0,2],[1,0,2]]"),
        ("top", "[]"), ("top_probability", "[[0.5,0.3,null],[0.5,0.3,0.2]]"), ("top_probability", "[]"),
        ("top_probability", "[[0.5,0.3,0.2],[0.5,0.3,2.0]]"), ("top_probability", "[[0.5],[0.5]]"),
    ],
)  # fmt: skip
def test_numbers_that_no_prediction_has_are_refused_in_a_sentence(tmp_path: Path, field: str, wrong: str) -> None:
    run, found = RunDir(tmp_path), ranked(num_images=2, num_classes=3)
    predictions.write(run, found, b"")
    text, _ = predictions.paths(run, "test")
    values = msgspec.to_builtins(found)
    right = msgspec.json.encode(values.pop(field)).decode()
    rest = msgspec.json.encode(values).decode()[:-1]
    text.write_text(f'{rest},"{field}":{right}}}')
    assert predictions.read(run, "test") == found
    text.write_text(f'{rest},"{field}":{wrong}}}')
    with pytest.raises(CifartuiError, match="delete it, and it will be made again"):
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
