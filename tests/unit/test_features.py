"""A frozen backbone's features, computed once: the same result as computing them every time, and the draws of views."""

from pathlib import Path

import msgspec
import pytest
import torch

from engine.journal import events
from engine.journal.jsonl import read_events
from engine.training.controls import Stopped
from engine.training.input_pipeline import InputPipeline
from engine.training.trainer import Trainer
from presets import schema
from tests.tiny_trainer import PRESET, make

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
    monkeypatch.setattr(uncached._pipeline, "_is_frozen", False)
    expected = uncached.run()
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


def test_an_unfrozen_network_is_fed_images(tmp_path: Path) -> None:
    trainer, _folder = make(tmp_path)
    inputs = trainer._pipeline.held_out("val", lambda _event: None)
    assert inputs.network is trainer._setup.network
    assert inputs.split.images.dtype == torch.uint8
