"""A training step waits for nothing that the device computes, and copies nothing between it and the host."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from engine.training.input_pipeline import of_epoch
from engine.training.reports import ReportInterval
from engine.training.trainer import Trainer
from presets import schema
from tests import every
from tests.pretended_gpu import Waits, pretended_cuda
from tests.tiny_trainer import PRESET, make

pytestmark = pytest.mark.slow  # trains

NETWORK = schema.Vgg(blocks=((4,), (6,)), pools=("max", "avg"), head=(8,), dropout=0.2)
TWENTY_EPOCHS = replace(PRESET, train=replace(PRESET.train, epochs=20))  # a one-cycle ends with its last epoch
AUGMENTED = replace(TWENTY_EPOCHS, train=replace(TWENTY_EPOCHS.train, augment=every.AUGMENTATIONS))
MIRRORED = replace(AUGMENTED, model=NETWORK, train=replace(AUGMENTED.train, alternating_flip=True))
WEIGHTED = schema.Loss(label_smoothing=0.1, class_weights="balanced")
PRESETS = {
    "plain": TWENTY_EPOCHS,
    "every augmentation": AUGMENTED,
    **{f"{mix}": replace(MIRRORED, mix=mix) for mix in every.MIXES},
    **{type(table).__name__: replace(TWENTY_EPOCHS, optimizer=table) for table in every.OPTIMIZERS},
    **{f"{mix} and class weights": replace(MIRRORED, mix=mix, loss=WEIGHTED) for mix in every.MIXES},
    "class weights": replace(TWENTY_EPOCHS, loss=WEIGHTED),
    **{type(table).__name__: replace(TWENTY_EPOCHS, schedule=table) for table in every.SCHEDULES},
}
AVERAGED = replace(MIRRORED, mix=every.MIXES[-1], train=replace(MIRRORED.train, ema_decay=0.9))
"""Not among the others: a network of fake tensors cannot be copied."""


def take_steps(trainer: Trainer, num_steps: int) -> None:
    stage = trainer._plan[0]
    inputs = trainer._pipeline.train(stage, 0, lambda _event: None)
    inputs = of_epoch(inputs, trainer._setup.info.preset, stage, 1, 0)
    order = torch.arange(len(inputs.split), device=inputs.split.images.device)
    trainer._train_batch(inputs, order[:8])  # brings constants to the device, once
    with Waits() as waits:
        for number in range(num_steps):
            start = number * 8 % len(order)
            trainer._train_batch(inputs, order[start : start + 8])
            trainer._report(trainer._meter.arrived())
    assert waits.reads == []
    assert waits.copies == []


@pytest.mark.parametrize("preset", [PRESETS["plain"], AVERAGED], ids=["plain", "everything"])
def test_two_hundred_steps_read_nothing_back(
    preset: schema.Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReportInterval, "is_due", lambda _self: False)
    take_steps(make(tmp_path, preset, num_train=160)[0], 200)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_nothing_that_a_step_is_made_of_reads_anything_back(
    preset: schema.Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReportInterval, "is_due", lambda _self: False)
    take_steps(make(tmp_path, preset, num_train=160)[0], 10)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_on_cuda_nothing_is_copied_to_or_from_the_host(preset: schema.Preset, tmp_path: Path) -> None:
    with pretended_cuda() as cuda:
        trainer, _ = make(tmp_path, preset, num_train=160, device=cuda)
        assert {parameter.device for parameter in trainer._setup.network.parameters()} == {cuda}
        take_steps(trainer, 20)


def test_the_counter_sees_what_it_should() -> None:
    with Waits() as waits:
        torch.ones(1).item()
    assert len(waits.reads) == 1
    with pretended_cuda() as cuda, Waits() as waits:
        there = torch.ones(3, device=cuda)
        there.cpu()
        there.copy_(torch.ones(3))
        nn.functional.relu(there)
    assert len(waits.copies) == 2
