"""A training step waits for nothing that the device computes, and copies nothing between it and the host."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from engine.training.input_pipeline import of_epoch
from engine.training.metrics import Meter
from engine.training.microbatch import MicroBatch
from engine.training.reports import ReportInterval
from engine.training.trainer import Trainer
from engine.training.validation import evaluate
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
PRESETS["clipping"] = replace(TWENTY_EPOCHS, train=replace(TWENTY_EPOCHS.train, clip_norm=0.1))
PRESETS["a moving average"] = AVERAGED = replace(
    MIRRORED, mix=every.MIXES[-1], train=replace(MIRRORED.train, ema_decay=0.9)
)


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


def test_on_cuda_metrics_copy_nothing_until_they_are_asked_for() -> None:
    with pretended_cuda() as cuda, Waits() as waits:
        meter = Meter(cuda, num_classes=100)
        for _ in range(3):
            meter.add(torch.zeros((), device=cuda), torch.empty(8, 100, device=cuda), torch.arange(8, device=cuda))
        assert waits.copies == []
        meter.request()
        assert meter.arrived() is None
    assert len(waits.copies) == 1
    assert waits.reads == []


@pytest.mark.parametrize("flip_average", [False, True])
def test_on_cuda_an_evaluation_copies_nothing_until_its_end(tmp_path: Path, flip_average: bool) -> None:
    with pretended_cuda() as cuda:
        setup = make(tmp_path, AVERAGED, device=cuda)[0]._setup
        setup.plain_transform(setup.data.val.images)  # brings constants to the device, once
        num_copies: list[int] = []
        with Waits() as waits, pytest.raises(DataDependentOutputException):  # the sums, which have no values here
            evaluate(
                setup.network, setup.data.val, setup.plain_transform, setup.criterion, batch_size=4, num_classes=100,
                at_once=MicroBatch(4, cuda, lambda _alert: None), autocast=setup.autocast,
                progress=lambda _done: num_copies.append(len(waits.copies)), flip_average=flip_average,
            )  # fmt: skip
    assert num_copies == [0] * 4


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_step_on_cuda_moves_every_weight(preset: schema.Preset, tmp_path: Path) -> None:
    """Else the tests above would see nothing of the optimizers."""
    with pretended_cuda() as cuda:
        trainer, _ = make(tmp_path, preset, device=cuda)
        optimizer = trainer._train_state.stage_optimizer.optimizer
        take_steps(trainer, 1)
        assert len(optimizer.state) == len(list(trainer._setup.network.parameters()))


def test_the_counter_sees_what_it_should() -> None:
    with Waits() as waits:
        torch.ones(1).item()
    assert len(waits.reads) == 1
    with pretended_cuda() as cuda, Waits() as waits:
        there = torch.ones(3, device=cuda)
        there.cpu()
        there.copy_(torch.ones(3))
        there[1] = 5  # as a kernel was once made
        nn.functional.relu(there)
    assert len(waits.copies) == 3
