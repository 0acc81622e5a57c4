"""A frozen backbone's features, computed once: the same result as computing them every time, and the draws of views."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import torch

from engine.journal import events
from engine.journal.jsonl import read_events
from engine.training.controls import Stopped
from engine.training.input_pipeline import InputPipeline
from engine.training.metrics import Sums
from engine.training.trainer import Trainer
from presets import schema
from tests.tiny_trainer import PRESET, make

pytestmark = pytest.mark.slow  # trains

CROPPED = (schema.Resize(size=40), schema.CenterCrop())
FLIPPED = (schema.HorizontalFlip(), schema.RandomCrop(padding=8))


def frozen(augment: tuple[schema.Augmentation, ...] = (), views: int | None = None) -> schema.Preset:
    train = msgspec.structs.replace(PRESET.train, augment=augment, feature_views=views, batch_size=16)
    return msgspec.structs.replace(PRESET, train=train, model=schema.Resnet18(frozen=True))


def count_features(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the batch size of every pass through the backbone."""
    network = trainer._setup.network
    passed: list[int] = []
    whole = network.features
    monkeypatch.setattr(network, "features", lambda images: (passed.append(len(images)), whole(images))[1])
    return passed


@pytest.mark.parametrize("augment", [(), CROPPED])
def test_cached_features_train_the_same_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: tuple[schema.Augmentation, ...]
) -> None:
    cached, folder = make(tmp_path / "cached", frozen(augment))
    before = {name: value.clone() for name, value in cached._setup.network.state_dict().items()}
    passed = count_features(cached, monkeypatch)
    finished = cached.run()
    assert sum(passed) == 80 + 16 + 16  # every split once, however many epochs

    uncached, _folder = make(tmp_path / "uncached", frozen(augment))
    pipeline = uncached._pipeline.train
    monkeypatch.setattr(
        uncached._pipeline, "train", lambda stage, *more: pipeline(msgspec.structs.replace(stage, frozen=False), *more)
    )
    passed = count_features(uncached, monkeypatch)
    expected = uncached.run()
    assert sum(passed) == 2 * (80 + 16) + 16
    ours, theirs = cached._setup.network.state_dict(), uncached._setup.network.state_dict()
    for name in ours:
        if name.startswith("fc."):
            assert torch.allclose(ours[name], theirs[name], atol=1e-5)
            assert not torch.equal(ours[name], before[name])
        else:
            assert torch.equal(ours[name], before[name])
    assert finished.test_loss == pytest.approx(expected.test_loss, rel=1e-4)
    progressed = [event for event in read_events(folder.events) if isinstance(event, events.DataProgressed)]
    assert {(event.phase, event.what) for event in progressed} == {
        ("features", "train images"), ("features", "val images"), ("features", "test images"),
    }  # fmt: skip


def test_augmented_input_goes_through_the_backbone_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path, frozen(FLIPPED))
    passed = count_features(trainer, monkeypatch)
    trainer.run()
    assert sum(passed) == 2 * 80 + 16 + 16


def test_views_are_augmented_one_by_one_and_drawn_anew_every_step(tmp_path: Path) -> None:
    trainer, _folder = make(tmp_path, frozen(FLIPPED, views=3))
    inputs = trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None)
    features = inputs.split.images
    assert features.shape == (80, 3, 512)
    assert not any(torch.allclose(features[:, one], features[:, other]) for one, other in [(0, 1), (0, 2), (1, 2)])
    pipeline = InputPipeline(trainer._setup, trainer._setup.network, trainer._journal.write)
    again = pipeline.train(trainer._plan[0], 0, lambda _event: None)
    assert torch.equal(again.split.images, features)
    torch.manual_seed(0)
    drawn = inputs.transform(features)
    which = (features == drawn[:, None]).all(2)
    assert which.any(1).all()  # one of its own views
    assert (which.sum(0) > 10).all()
    assert not torch.equal(inputs.transform(features), drawn)


def test_features_are_computed_in_parts_where_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = make(tmp_path / "whole", frozen(FLIPPED, views=2))
    expected = whole._pipeline.train(whole._plan[0], 0, lambda _event: None).split.images
    trainer, folder = make(tmp_path / "parts", frozen(FLIPPED, views=2))
    network = trainer._setup.network
    features = network.features

    def limited(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 10:
            raise torch.OutOfMemoryError
        return features(images)

    monkeypatch.setattr(network, "features", limited)
    found = trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None).split.images
    assert torch.allclose(found, expected, atol=1e-4)  # the same views: a batch is augmented as a whole
    told = [event for event in read_events(folder.events) if isinstance(event, events.Alerted)]
    assert [alert.text.count("in computing features: from here on") for alert in told] == [1, 1, 1]


def test_views_train_the_head_and_nothing_else(tmp_path: Path) -> None:
    trainer, _folder = make(tmp_path, frozen(FLIPPED, views=2))
    before = {name: value.clone() for name, value in trainer._setup.network.state_dict().items()}
    assert trainer.run().outcome == "completed"
    after = trainer._setup.network.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_stop_ends_the_computing_of_training_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path, frozen())
    poll = trainer._controls.poll

    def stop() -> float:
        trainer._controls.stop_after = "batch"
        return poll()

    monkeypatch.setattr(trainer._controls, "poll", stop)
    with pytest.raises(Stopped):
        trainer._train_stage()
    finished = trainer.run()
    assert (finished.outcome, finished.epoch, finished.test_top1) == ("stopped", 0, None)


@pytest.mark.parametrize("origin", ["last", "best"])
def test_behind_a_stage_that_trains_all_the_average_is_measured_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: Literal["last", "best"]
) -> None:
    """Features belong to the backbone that is evaluated and saved, not to the one that it is the average of."""
    stages = (
        schema.Stage(name="whole", epochs=1, frozen=False),
        schema.Stage(name="head", epochs=2, frozen=True, start_from=origin),
    )
    preset = msgspec.structs.replace(
        frozen(), stages=stages, model=schema.Resnet18(), optimizer=schema.Sgd(lr=1e-3),
        train=msgspec.structs.replace(PRESET.train, epochs=None, augment=(), batch_size=16, ema_decay=0.9),
    )  # fmt: skip
    trainer, _folder = make(tmp_path, preset)
    whole: list[float] = []
    measure = trainer._evaluate

    def measured(split: Literal["val", "test"], look: Callable[[], None] | None = None) -> Sums:
        sums, setup = measure(split, look), trainer._setup
        images = setup.data.val if split == "val" else setup.data.test
        network = trainer._train_state.evaluated.eval()
        with torch.inference_mode():
            loss = setup.criterion(network(setup.plain_transform(images.images)), images.labels)
        assert sums.mean_loss() == pytest.approx(float(loss), rel=1e-4)
        whole.append(float(loss))
        return sums

    monkeypatch.setattr(trainer, "_evaluate", measured)
    finished = trainer.run()
    assert finished.test_loss == pytest.approx(whole[-1], rel=1e-4)
    assert len(whole) == 4


def test_an_unfrozen_network_is_fed_images(tmp_path: Path) -> None:
    trainer, _folder = make(tmp_path)
    inputs = trainer._pipeline.eval_inputs("val", lambda _event: None)
    assert inputs.network is trainer._setup.network
    assert inputs.split.images.dtype == torch.uint8
