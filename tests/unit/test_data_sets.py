import pytest
import torch

from engine.data.load import load
from engine.data.progress import LoadProgress
from engine.data.sets import DataSet, split_rows
from engine.data.shapes import CLASS_NAMES
from engine.journal.events import DataProgressed
from presets.errors import CifartuiError
from presets.schema import Data

SHAPES = Data(dataset="shapes100")


@pytest.fixture(scope="module")
def shapes() -> DataSet:
    return load(SHAPES, None, 1, lambda event: None)


def test_every_tenth_row_validates() -> None:
    train, val = split_rows(45, SHAPES, seed=3)
    assert val.tolist() == [0, 10, 20, 30, 40]
    assert train.tolist() == [row for row in range(45) if row % 10]


def test_a_fraction_is_drawn_by_the_seed() -> None:
    data = Data(dataset="shapes100", validation=0.2)
    train, val = split_rows(1000, data, seed=3)
    assert (len(train), len(val)) == (800, 200)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(1000))
    assert torch.equal(val, split_rows(1000, data, seed=3)[1])
    assert not torch.equal(val, split_rows(1000, data, seed=4)[1])


@pytest.mark.parametrize("fraction", [0.0, 0.0001, 1.0])
def test_neither_part_may_be_empty(fraction: float) -> None:
    with pytest.raises(CifartuiError, match=r"data\.validation = .*0\.1"):
        split_rows(1000, Data(dataset="shapes100", validation=fraction), seed=0)


def test_progress_is_reported_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    events: list[DataProgressed] = []
    progress = LoadProgress(events.append, "decode", "images", "birds", 1000)
    for _ in range(1000):
        now += 0.001
        progress.advance(1)
    progress.finish()
    assert 10 <= len(events) <= 12
    assert [events[0].done, events[-1].done] == [0, 1000]


def test_shapes_are_the_same_in_every_run(shapes: DataSet) -> None:
    events: list[DataProgressed] = []
    limited = load(Data(dataset="shapes100", train_limit=50), None, 2, events.append)
    assert (len(shapes.train), len(shapes.val), len(shapes.test)) == (9_000, 1_000, 2_000)
    assert torch.equal(limited.train.images, shapes.train.images[:50])  # the limit takes the first ones
    assert torch.equal(limited.val.images, shapes.val.images)
    assert torch.equal(limited.test.labels, shapes.test.labels)
    assert (shapes.generated, shapes.class_names) == (True, CLASS_NAMES)
    assert "generated" in shapes.notices[0]
    assert {event.phase for event in events} == {"generate"}


def test_shapes_are_balanced_and_mixed(shapes: DataSet) -> None:
    assert len(set(CLASS_NAMES)) == 100
    assert torch.bincount(shapes.test.labels).tolist() == [20] * 100
    assert torch.bincount(torch.cat((shapes.train.labels, shapes.val.labels))).tolist() == [100] * 100
    assert len(set(shapes.val.labels.tolist())) > 95
    assert shapes.train.images.shape == (9_000, 3, 32, 32)
    assert shapes.train.images.dtype == torch.uint8
    assert shapes.train.images.is_contiguous()


def test_shapes_have_the_colours_of_their_names(shapes: DataSet) -> None:
    disc = shapes.train.images[shapes.train.labels == CLASS_NAMES.index("red-blue disc")].float()
    red, _, blue = disc[:, :, 14:18, 14:18].mean((0, 2, 3))
    assert red > blue + 50
    red, _, blue = disc[:, :, :, :2].mean((0, 2, 3))
    assert blue > red + 50
    bars = shapes.train.images[shapes.train.labels == CLASS_NAMES.index("red-blue bar")].float()
    assert bars[:, 0, 2:5].mean() < disc[:, 0, 14:18].mean() - 50  # above a bar there is background
