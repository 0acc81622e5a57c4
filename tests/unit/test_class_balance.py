"""Uneven classes: weighted loss, balanced draws, balanced accuracy, and the weights that are kept as the best."""

from collections import Counter
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional

from engine.data.mixup import mix_batch
from engine.data.sets import ImageSplit
from engine.journal import events
from engine.journal.jsonl import EventWriter, read_events
from engine.journal.state import fold
from engine.training import checkpoint_files
from engine.training.class_balance import (
    WeightedCrossEntropy,
    balanced_accuracy,
    balanced_weights,
    class_counts,
    cross_entropy,
    is_uneven,
    measures_balanced,
)
from engine.training.controls import Controls
from engine.training.distributed.sharding import shard_of
from engine.training.metrics import Meter, Sums
from engine.training.microbatch import MicroBatch
from engine.training.progress import Progress
from engine.training.seeds import balanced_draws
from engine.training.trainer import Trainer
from engine.training.validation import evaluate
from presets import schema
from presets.errors import CifartuiError
from tests.tiny_trainer import CPU, PRESET, make, make_folder, make_setup

NAMES = ("ant", "bee", "caf\u00e9")
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
"""Six ants, three bees, one café."""


def batch(size: int = 9, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(size, num_classes, generator=generator), torch.arange(size) % num_classes


# --- weights -----------------------------------------------------------------------------------------


def test_balanced_weights_are_images_over_classes_times_count() -> None:
    weights = balanced_weights(class_counts(LABELS, 3))
    assert weights.tolist() == pytest.approx([10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1)])
    assert float(weights[LABELS].mean()) == pytest.approx(1.0)


def test_a_class_without_training_images_is_not_counted_and_weighs_one() -> None:
    assert balanced_weights(torch.tensor([6, 0, 3])).tolist() == pytest.approx([9 / (2 * 6), 1.0, 9 / (2 * 3)])


def test_a_table_names_classes_in_whatever_unicode_form() -> None:
    criterion = cross_entropy(schema.Loss(class_weights={"cafe\u0301": 4.0, "bee": 0.5}), LABELS, NAMES)
    assert isinstance(criterion, WeightedCrossEntropy)
    assert criterion.weights.tolist() == [1.0, 0.5, 4.0]
    with pytest.raises(CifartuiError, match='names the class "wasp", which this data does not have; its 3 classes are'):
        cross_entropy(schema.Loss(class_weights={"wasp": 2.0}), LABELS, NAMES)


def test_without_class_weights_the_loss_is_torch_own() -> None:
    assert type(cross_entropy(schema.Loss(label_smoothing=0.1), LABELS, NAMES)) is nn.CrossEntropyLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_weighted_mean_is_that_of_torch(smoothing: float) -> None:
    logits, labels = batch()
    labels[0] = 2  # else every class is as often there
    weights = torch.tensor([0.3, 1.0, 5.0])
    theirs = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(WeightedCrossEntropy(weights, smoothing)(logits, labels), theirs)
    torch.testing.assert_close(WeightedCrossEntropy(7 * weights, smoothing)(logits, labels), theirs)


def test_the_weighted_mean_of_two_images_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    loss = WeightedCrossEntropy(torch.tensor([1.0, 1.0, 3.0]))(logits, torch.tensor([0, 2]))
    by_hand = -(torch.log(torch.tensor(0.5)) + 3 * torch.log(torch.tensor(0.8))) / 4
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_mixed_image_weighs_each_class_by_its_share(smoothing: float) -> None:
    logits, labels = batch()
    labels[0] = 2
    weights = torch.tensor([0.3, 1.0, 5.0])
    torch.manual_seed(0)
    _, targets = mix_batch(torch.zeros(9, 3, 4, 4), labels, schema.Mix(mixup=1.0), 3)
    smoothed = targets * (1 - smoothing) + smoothing / 3
    by_hand = -(smoothed * weights * logits.log_softmax(1)).sum() / weights[labels].sum()
    torch.testing.assert_close(WeightedCrossEntropy(weights, smoothing).of(labels)(logits, targets), by_hand)
    whole = functional.one_hot(labels, 3).float()  # an epoch without mixing has the loss of one that mixes nothing
    torch.testing.assert_close(
        WeightedCrossEntropy(weights, smoothing).of(labels)(logits, whole),
        WeightedCrossEntropy(weights, smoothing)(logits, labels),
    )


@pytest.mark.parametrize(("total", "num_ranks"), [(8, 2), (9, 2), (3, 2), (1, 2), (5, 3)])
def test_averaged_gradients_of_ranks_are_those_of_the_whole_batch(total: int, num_ranks: int) -> None:
    torch.manual_seed(0)
    network, criterion = nn.Linear(6, 5), WeightedCrossEntropy(torch.tensor([0.2, 1.0, 1.0, 3.0, 9.0]), 0.1)
    images, labels = torch.randn(total, 6), torch.randint(5, (total,))
    whole = torch.autograd.grad(criterion(network(images), labels), list(network.parameters()))
    sums, told = [torch.zeros_like(gradient) for gradient in whole], Meter(CPU)
    for rank in range(num_ranks):
        shard = shard_of(total, rank, num_ranks)
        output = network(shard.of(images))
        loss = shard.mean_loss(criterion.of(labels), output, shard.of(labels))
        told.add(loss, shard.own(output), shard.own(shard.of(labels)))
        for summed, gradient in zip(
            sums, torch.autograd.grad(loss * shard.weight, list(network.parameters())), strict=True
        ):
            summed += gradient / num_ranks  # as DistributedDataParallel averages
    for summed, gradient in zip(sums, whole, strict=True):
        torch.testing.assert_close(summed, gradient)
    assert told.read().mean_loss() == pytest.approx(float(criterion(network(images), labels).detach()), rel=1e-5)


# --- balanced accuracy -------------------------------------------------------------------------------


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_have_images() -> None:
    assert balanced_accuracy([6, 0, 1], torch.tensor([6, 3, 1])) == pytest.approx((1 + 0 + 1) / 3)
    assert balanced_accuracy([3, 0, 1], torch.tensor([6, 0, 4])) == pytest.approx((0.5 + 0.25) / 2)


def test_classes_are_uneven_from_one_and_a_half_times_as_many_images() -> None:
    assert not is_uneven(torch.tensor([100, 149]))
    assert is_uneven(torch.tensor([100, 150]))
    assert not is_uneven(torch.tensor([100, 0, 100]))  # a class without images is another matter


@pytest.mark.parametrize("at_once", [16, 3])
def test_an_evaluation_counts_hits_by_class_and_weighs_the_whole_split(at_once: int) -> None:
    logits, labels = batch(16)
    labels[:6] = 0
    split = ImageSplit(logits, labels)
    criterion = WeightedCrossEntropy(torch.tensor([0.3, 1.0, 5.0]))
    sums = evaluate(
        nn.Identity(), split, lambda images: images, criterion, batch_size=5, num_classes=3,
        at_once=MicroBatch(at_once, CPU, lambda _alert: None),
        autocast=torch.inference_mode, progress=lambda _done: None,
    )  # fmt: skip
    predicted = logits.argmax(1)
    recalls = [float((predicted[labels == each] == each).float().mean()) for each in range(3)]
    assert sums.balanced == pytest.approx(sum(recalls) / 3)
    assert sums.top1() == pytest.approx(float((predicted == labels).float().mean()))
    assert sums.mean_loss() == pytest.approx(float(nn.CrossEntropyLoss(weight=criterion.weights)(logits, labels)))


# --- draws -------------------------------------------------------------------------------------------


def test_every_class_is_drawn_equally_often_and_every_image_of_it() -> None:
    labels = LABELS.repeat(1000)
    rows = balanced_draws(labels, 7, 1)
    assert len(rows) == len(labels)
    times = Counter(labels[rows].tolist())
    assert all(times[each] == pytest.approx(10_000 / 3, rel=0.05) for each in range(3))
    of_bees = Counter(row % 10 for row in rows.tolist() if labels[row] == 1)
    assert set(of_bees) == {6, 7, 8}
    assert all(count == pytest.approx(10_000 / 9, rel=0.1) for count in of_bees.values())


def test_draws_are_a_function_of_seed_and_epoch_and_repeat_rows() -> None:
    first = balanced_draws(LABELS, 7, 1)
    assert torch.equal(first, balanced_draws(LABELS, 7, 1))
    assert not torch.equal(first, balanced_draws(LABELS, 7, 2))
    assert not torch.equal(first, balanced_draws(LABELS, 8, 1))
    assert len(set(first.tolist())) < len(first)


def test_a_class_without_images_is_never_drawn() -> None:
    labels = torch.tensor([0, 4, 4, 4])
    assert {int(labels[row]) for epoch in range(20) for row in balanced_draws(labels, 1, epoch)} == {0, 4}


# --- the best weights --------------------------------------------------------------------------------


def test_the_best_epoch_goes_by_the_accuracy_that_is_asked_for() -> None:
    by_top1, by_balanced = Progress(), Progress()
    results = [(0.9, 0.4), (0.8, 0.6), (0.95, 0.5)]
    found = []
    for epoch, (top1, balanced) in enumerate(results, start=1):
        by_top1.epoch = by_balanced.epoch = epoch
        found.append((by_top1.note_best(top1, balanced)[0], by_balanced.note_best(top1, balanced, "val_balanced")[0]))
    assert found == [(True, True), (False, True), (True, False)]
    assert (by_top1.best_epoch, by_top1.best_val_top1, by_top1.best_val_balanced) == (3, 0.95, 0.5)
    assert (by_balanced.best_epoch, by_balanced.best_val_top1, by_balanced.best_val_balanced) == (2, 0.8, 0.6)


def test_a_stage_and_a_run_without_its_best_weights_forget_both_accuracies() -> None:
    progress = Progress()
    progress.note_best(0.9, 0.8, "val_balanced")
    progress.forget_best("stage-best")
    progress.epoch = 2
    assert progress.note_best(0.5, 0.4, "val_balanced") == (False, True)
    assert (progress.stage_best_epoch, progress.stage_best_val_balanced) == (2, 0.4)
    progress.forget_best("best")
    progress.epoch = 3
    assert progress.note_best(0.3, 0.2, "val_balanced") == (True, False)
    assert (progress.best_epoch, progress.best_val_balanced) == (3, 0.2)


@pytest.mark.slow
def test_every_stage_has_a_best_of_its_own_by_balanced_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = (schema.Stage(name="a", epochs=1), schema.Stage(name="b", epochs=2, start_from="best"))
    train = replace(PRESET.train, epochs=None, augment=(), best_by="val_balanced", patience=1)
    trainer, folder = make(tmp_path, replace(PRESET, train=train, stages=stages))
    results = iter([0.9, 0.3, 0.4, 0.0])
    monkeypatch.setattr(trainer, "_evaluate", lambda _split, _poll=None: Sums(1.0, 10, 100, next(results)))
    assert trainer.run().outcome == "completed"
    told = [event for event in read_events(folder.events) if isinstance(event, events.EpochCompleted)]
    assert [(event.epoch, event.is_best) for event in told] == [(1, True), (2, False), (3, False)]
    assert checkpoint_files.load(folder.last)["progress"]["stage_best_epoch"] == 3


def uneven(**changes: Any) -> schema.Preset:
    """Return the preset of a run that goes by balanced accuracy, with weights and draws to match."""
    train = replace(PRESET.train, epochs=3, best_by="val_balanced", **changes)
    return replace(
        PRESET, train=train, data=replace(PRESET.data, sampler="balanced"), loss=schema.Loss(class_weights="balanced")
    )


@pytest.mark.slow
def test_patience_plateau_and_best_weights_follow_the_balanced_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = replace(uneven(patience=2), schedule=schema.Plateau(patience=0))
    preset = replace(preset, train=replace(preset.train, epochs=9))
    trainer, folder = make(tmp_path, preset)
    results = iter([(10, 0.2), (20, 0.5), (30, 0.4), (40, 0.3), (50, 0.2)])
    rates = []

    def measured(_split: str, _poll: object = None) -> Sums:
        rates.append(trainer._train_state.stage_optimizer.lr)
        hits, balanced = next(results)
        return Sums(1.0, hits, 100, balanced)

    monkeypatch.setattr(trainer, "_evaluate", measured)
    end = trainer.run()
    assert "the best validation accuracy, of epoch 2, did not rise for 2 epochs" in end.reason
    assert rates[:4] == pytest.approx([0.01, 0.01, 0.01, 0.001])
    assert (end.best_epoch, end.best_val_top1, end.best_val_balanced) == (2, 0.2, 0.5)
    best = checkpoint_files.load(folder.best)
    assert (best["epoch"], best["val_top1"], best["val_balanced"]) == (2, 0.2, 0.5)
    state = fold(read_events(folder.events))
    assert state.best is not None
    assert (state.best.number, state.best.val_top1, state.best.val_balanced) == (2, 0.2, 0.5)


@pytest.mark.slow
def test_even_classes_have_one_accuracy_and_uneven_ones_two(tmp_path: Path) -> None:
    def told(path: Path, labels: Tensor) -> list[float | None]:
        setup, folder = make_setup(replace(PRESET, train=replace(PRESET.train, epochs=1))), make_folder(path)
        setup.data.train.labels.copy_(labels)
        setup = with_fields(setup, measures_balanced=measures_balanced(setup.info.preset.train, setup.data))
        journal = EventWriter(folder.events)
        Trainer(setup, folder, journal, Controls(folder, journal)).run()
        epochs = [event for event in read_events(folder.events) if isinstance(event, events.EpochCompleted)]
        return [event.val_balanced for event in epochs]

    assert told(tmp_path / "even", torch.arange(80) % 4) == [None]
    assert all(value is not None for value in told(tmp_path / "uneven", torch.arange(80).clamp(max=1)))


@pytest.mark.slow
def test_a_resumed_run_draws_and_weighs_as_one_left_alone(tmp_path: Path) -> None:
    whole, folder = make(tmp_path / "whole", uneven())
    whole.run()
    cut, half = make(tmp_path / "cut", uneven())
    save = cut._report_and_save_if_due

    def stop_in_the_second_epoch() -> None:
        save()
        if cut.progress.global_step == 14:
            cut._controls.stop_after = "batch"

    cut._report_and_save_if_due = stop_in_the_second_epoch  # type: ignore[method-assign]
    cut.run()
    resumed, _ = make(tmp_path / "cut", uneven())
    resumed.restore(checkpoint_files.load(half.last))
    resumed.run()
    ours, theirs = checkpoint_files.load(half.last), checkpoint_files.load(folder.last)
    assert all(torch.equal(ours["network"][name], value) for name, value in theirs["network"].items())
    scores = ("best_epoch", "best_val_top1", "best_val_balanced")
    assert [ours["progress"][name] for name in scores] == [theirs["progress"][name] for name in scores]


def test_an_epoch_of_balanced_draws_is_as_long_as_any(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, uneven())
    assert trainer._steps_per_epoch == make(tmp_path / "other")[0]._steps_per_epoch
