"""How a step is taken, operation by operation, recorded or compiled: all of them train the same."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from engine.journal.events import Alerted
from engine.journal.jsonl import read_events
from engine.training.device import autocast
from engine.training.input_pipeline import of_epoch
from engine.training.optimizers import _RATES
from engine.training.setup import surprising, unsupported_speedups
from engine.training.trainer import Trainer
from presets import schema
from presets.errors import CifartuiError
from tests import every
from tests.pretended_gpu import BakedTape, taped
from tests.tiny_trainer import CPU, PRESET, make

pytestmark = pytest.mark.slow  # trains

CHECK = ["replay"] * 4
"""Of a recording, before it trains: as the step is, and with other images, another seed and another rate."""
CHECK_MIRRORED = ["replay"] * 5


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer._setup.network.parameters()])


def record_with(trainer: Trainer, tape: BakedTape) -> None:
    trainer._stepper._recorded = taped(trainer, tape)


def train(trainer: Trainer, batches: list[int]) -> list[float]:
    """Train batches of the given sizes and return their mean losses."""
    inputs = trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None)
    losses, first, rows = [], 0, torch.arange(len(inputs.split), device=inputs.split.images.device)
    for size in batches:
        before = trainer._meter.read()
        trainer._train_batch(inputs, rows[first : first + size])
        losses.append(trainer._meter.read().since(before).mean_loss())
        first += size
        trainer.progress.global_step += 1
    return losses


def test_images_are_augmented_in_full_precision_and_the_network_is_not(tmp_path: Path) -> None:
    trainer = make(tmp_path)[0]
    trainer._stepper._setup = dataclasses.replace(trainer._setup, autocast=autocast(CPU, "bf16"))
    inputs = trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None)
    told: list[object] = []

    def transform(images: torch.Tensor) -> torch.Tensor:
        told.append(torch.is_autocast_enabled("cpu"))
        return inputs.transform(images)

    trainer._setup.network.register_forward_hook(lambda _network, _images, logits: told.append(logits.dtype))
    trainer._train_batch(inputs._replace(transform=transform), torch.arange(8))
    assert told == [False, torch.bfloat16]


@pytest.mark.parametrize("schedule", every.TRAINING_SCHEDULES, ids=lambda table: type(table).__name__)
@pytest.mark.parametrize("optimizer", every.OPTIMIZERS, ids=lambda table: type(table).__name__)
def test_a_recorded_step_trains_as_a_plain_one(
    optimizer: schema.Optimizer, schedule: schema.Schedule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.training.muon.has_bf16", lambda _device: False)  # in which the last digits are the 3rd
    batches = [8, 8, 8, 8, 8, 5, 8, 8]
    preset = replace(PRESET, optimizer=optimizer, schedule=schedule)
    plain, recorded, tape = make(tmp_path / "a", preset)[0], make(tmp_path / "b", preset)[0], BakedTape()
    record_with(recorded, tape)
    losses = [*train(plain, batches), *scaled_and_trained(plain)]
    assert [*train(recorded, batches), *scaled_and_trained(recorded)] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(weights(recorded), weights(plain), rtol=1e-5, atol=1e-6)
    assert tape.done == ["warm-up"] * 3 + ["record"] + CHECK + ["replay"] * 4 + CHECK + ["replay"] * 2  # 5 as it comes


def scaled_and_trained(trainer: Trainer) -> list[float]:
    trainer._train_state.stage_optimizer.scale_lr(0.5)  # as a command does
    return train(trainer, [8, 8])


@pytest.mark.parametrize("schedule", every.TRAINING_SCHEDULES, ids=lambda table: type(table).__name__)
@pytest.mark.parametrize("optimizer", every.OPTIMIZERS, ids=lambda table: type(table).__name__)
def test_a_schedule_moves_learning_rates_and_no_other_number(
    optimizer: schema.Optimizer, schedule: schema.Schedule, tmp_path: Path
) -> None:
    def numbers(trainer: Trainer) -> list[dict[str, Any]]:
        groups = trainer._train_state.stage_optimizer.optimizer.param_groups
        return [{key: group[key] for key in group.keys() - _RATES - {"params"}} for group in groups]

    trainer, _ = make(tmp_path, replace(PRESET, optimizer=optimizer, schedule=schedule))
    unmoved, _ = make(tmp_path / "constant", replace(PRESET, optimizer=optimizer))
    train(trainer, [8] * 6)
    trainer._train_state.stage_optimizer.epoch_done(0.1)
    assert numbers(trainer) == numbers(unmoved)


def test_epochs_that_treat_their_images_in_another_way_are_recorded_anew(tmp_path: Path) -> None:
    changing = replace(PRESET.train, epochs=4, alternating_flip=True, image_sizes=((0.5, 24),))
    network = schema.Vgg(blocks=((4,), (6,)), pools=("max", "avg"), head=(8,))
    mix = schema.Mix(mixup=0.2, cutmix=1.0, p=0.7, off_epochs=1)
    preset, tape, found = replace(PRESET, model=network, train=changing, mix=mix), BakedTape(), []
    for name in ("plain", "recorded"):
        trainer, _ = make(tmp_path / name, preset)
        if name == "recorded":
            record_with(trainer, tape)
        stage, rows = trainer._plan[0], torch.arange(80)
        inputs, losses = trainer._pipeline.train(stage, 0, lambda _event: None), []
        for epoch in range(1, 5):  # mirrored in turn; the third is larger, the fourth not mixed
            seen = of_epoch(inputs, preset, stage, epoch, epoch - 1)
            for start in range(0, 48, 8):
                before = trainer._meter.read()
                trainer._train_batch(seen, rows[start : start + 8])
                losses.append(trainer._meter.read().since(before).mean_loss())
                trainer.progress.global_step += 1
        found.append(losses)
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    recording = ["warm-up"] * 3 + ["record"] + CHECK_MIRRORED
    whole = [*recording, *["replay"] * 3, *CHECK_MIRRORED, *["replay"] * 6]  # of two epochs
    assert tape.done == [*whole, *recording, *["replay"] * 3, *recording, *["replay"] * 3]


def test_a_step_that_cannot_be_recorded_is_taken_as_it_comes(tmp_path: Path) -> None:
    class Refuses(BakedTape):
        def record(self, work: Callable[[], Any]) -> Any:
            self.done.append("record")
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand a long story")

    plain, (recorded, folder), tape = make(tmp_path / "a")[0], make(tmp_path / "b"), Refuses()
    record_with(recorded, tape)
    assert train(recorded, [8] * 6) == train(plain, [8] * 6)
    assert tape.done == ["warm-up"] * 3 + ["record"]
    [alert] = [event for event in read_events(folder.events) if isinstance(event, Alerted)]
    assert "cannot be recorded (CUDA error: operation not permitted when stream is capturing): steps are" in alert.text


def test_a_recording_without_memory_leaves_steps_as_they_come(tmp_path: Path) -> None:
    class NoRoom(BakedTape):
        def record(self, work: Callable[[], Any]) -> Any:
            self.done.append("record")
            raise RuntimeError("CUDA error: out of memory")

    plain, recorded = make(tmp_path / "a")[0], make(tmp_path / "b")
    tape = NoRoom()
    record_with(recorded[0], tape)
    assert train(recorded[0], [8] * 6) == train(plain, [8] * 6)
    assert tape.done == ["warm-up"] * 3 + ["record"]
    [alert] = [event for event in read_events(recorded[1].events) if isinstance(event, Alerted)]
    assert "for a recorded step" in alert.text
    assert "train.cuda_graphs = false" in alert.advice


def test_nothing_of_a_recording_is_saved(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path)
    groups = [dict(group) for group in trainer._train_state.stage_optimizer.optimizer.param_groups]
    record_with(trainer, BakedTape())
    train(trainer, [8] * 5)
    assert [dict(group) for group in trainer._train_state.stage_optimizer.optimizer.param_groups] == groups


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="there is no C++ compiler")
def test_a_compiled_network_trains_as_it_does_uncompiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    preset = replace(PRESET, train=replace(PRESET.train, compile="default"))
    plain, compiled = make(tmp_path / "a")[0], make(tmp_path / "b", preset)[0]
    batches = [8, 8, 5, 8]
    assert train(compiled, batches) == pytest.approx(train(plain, batches), rel=1e-4)
    torch.testing.assert_close(weights(plain), weights(compiled))
    assert list((tmp_path / "inductor").rglob("*.so"))


def test_what_cannot_be_compiled_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_args: object, **_more: object) -> object:
        def fail(_images: torch.Tensor) -> torch.Tensor:
            from torch._dynamo.exc import TorchDynamoException

            raise TorchDynamoException("no compiler found\nand a long story")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    trainer, _ = make(tmp_path, replace(PRESET, train=replace(PRESET.train, compile="default")))
    with pytest.raises(CifartuiError, match=r'could not be compiled \(no compiler found\).*train.compile = "off"'):
        train(trainer, [8])


def test_a_backward_pass_that_cannot_be_compiled_is_said_in_the_same_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, logits: torch.Tensor) -> torch.Tensor:
            return logits.clone()

        @staticmethod
        def backward(_context: Any, *_gradients: torch.Tensor) -> torch.Tensor:
            from torch._dynamo.exc import TorchDynamoException

            raise TorchDynamoException("no Triton found\nand a long story")  # it is compiled when it is first run

    def compiled(network: torch.nn.Module, **_more: object) -> object:
        return lambda images: Late.apply(network(images))  # type: ignore[no-untyped-call]

    monkeypatch.setattr(torch, "compile", compiled)
    trainer, _ = make(tmp_path, replace(PRESET, train=replace(PRESET.train, compile="default")))
    with pytest.raises(CifartuiError, match=r'could not be compiled \(no Triton found\).*train.compile = "off"'):
        train(trainer, [8])


def test_graphs_have_no_effect_on_the_cpu_and_that_is_said(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, replace(PRESET, train=replace(PRESET.train, cuda_graphs=True)))
    assert unsupported_speedups(trainer._setup) == {
        "train.cuda_graphs": "train.cuda_graphs has no effect here: only CUDA has graphs."
    }
    assert trainer._stepper._recorded is None
    assert unsupported_speedups(make(tmp_path / "plain")[0]._setup) == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("optimizer", every.OPTIMIZERS, ids=lambda table: type(table).__name__)
def test_a_graph_trains_as_plain_steps_do(optimizer: schema.Optimizer, tmp_path: Path) -> None:
    preset = replace(PRESET, optimizer=optimizer, schedule=schema.OneCycle())
    graphs = replace(preset, train=replace(preset.train, cuda_graphs=True))
    losses = []
    for number, asked in enumerate((preset, graphs)):
        trainer, _ = make(tmp_path / str(number), asked, device=torch.device("cuda", 0))
        assert (trainer._stepper._recorded is not None) == (number == 1)
        losses.append(train(trainer, [8] * 6 + [5, 8]))
        assert trainer._stepper._recorded is None or not trainer._stepper._recorded.is_given_up
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_what_is_done_to_the_images_and_may_surprise_is_said(tmp_path: Path) -> None:
    one_left, all_trained = make(tmp_path / "a", num_train=33)[0], make(tmp_path / "b", num_train=34)[0]
    (said,) = surprising(one_left._setup)
    assert said.startswith("Each epoch leaves out one of the 33 training images")
    assert surprising(all_trained._setup) == []
    assert surprising(make(tmp_path / "c", num_train=8)[0]._setup) == []
    twice = replace(
        PRESET,
        data=replace(PRESET.data, sampler="balanced"),
        loss=schema.Loss(class_weights="balanced"),
    )
    setup = dataclasses.replace(all_trained._setup, info=replace(all_trained._setup.info, preset=twice))
    (said,) = surprising(setup)
    assert said.startswith("Uneven classes are evened out twice")
