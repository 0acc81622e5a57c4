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
from engine.training.setup import unsupported_speedups
from engine.training.step import RecordedStep
from engine.training.trainer import Trainer
from presets import schema
from presets.errors import CifartuiError
from tests import every
from tests.tiny_trainer import CPU, PRESET, make

pytestmark = pytest.mark.slow  # trains


class Tape:
    """Records on the CPU as CUDA does: a recording does nothing, a replay does it, into the same tensors."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._work: Callable[[], Any]
        self._results: Any = None

    def warm_up(self, work: Callable[[], Any]) -> Any:
        self.done.append("warm-up")
        return work()

    def record(self, work: Callable[[], Any]) -> Any:
        self.done.append("record")
        self._work, self._results = work, [torch.zeros(()), torch.zeros(8, 100), torch.zeros(8, dtype=torch.int64)]
        return self._results

    def replay(self) -> None:
        self.done.append("replay")
        for place, tensor in zip(self._results, self._work(), strict=True):
            place.copy_(tensor)


class Rate(Tape):
    """A tape that notes from where the optimizer takes its learning rate while it records."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self._groups = trainer._train_state.stage_optimizer.optimizer.param_groups
        self.recorded: Any = None

    def record(self, work: Callable[[], Any]) -> Any:
        self.recorded = self._groups[0]["lr"]
        return super().record(work)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer._setup.network.parameters()])


def record_with(trainer: Trainer, tape: Tape) -> None:
    trainer._stepper._recorded = RecordedStep(8, CPU, trainer._journal.write, tape)


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


def test_a_recorded_step_trains_as_a_plain_one(tmp_path: Path) -> None:
    batches = [8, 8, 8, 8, 8, 5, 8, 8]
    preset = replace(PRESET, schedule=schema.OneCycle())  # another learning rate in every step
    plain, recorded, tape = make(tmp_path / "a", preset)[0], make(tmp_path / "b", preset)[0], Tape()
    record_with(recorded, tape)
    assert train(recorded, batches) == train(plain, batches)
    assert torch.equal(weights(plain), weights(recorded))
    assert tape.done == ["warm-up"] * 3 + ["record"] + ["replay"] * 4  # and the batch of 5 as it comes


def test_a_recording_without_memory_leaves_steps_as_they_come(tmp_path: Path) -> None:
    class NoRoom(Tape):
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


@pytest.mark.parametrize("optimizer", every.OPTIMIZERS, ids=lambda table: type(table).__name__)
def test_a_recording_takes_its_rate_from_a_tensor_that_follows_the_schedule(
    optimizer: schema.Optimizer, tmp_path: Path
) -> None:
    trainer, _ = make(tmp_path, replace(PRESET, optimizer=optimizer))
    groups = [dict(group) for group in trainer._train_state.stage_optimizer.optimizer.param_groups]
    tape = Rate(trainer)
    record_with(trainer, tape)
    train(trainer, [8] * 4)
    assert isinstance(tape.recorded, torch.Tensor)
    assert float(tape.recorded) == pytest.approx(0.01)
    trainer._train_state.stage_optimizer.scale_lr(0.5)
    train(trainer, [8])
    assert float(tape.recorded) == pytest.approx(0.005)
    trainer._train_state.stage_optimizer.scale_lr(2)
    assert [
        dict(group) for group in trainer._train_state.stage_optimizer.optimizer.param_groups
    ] == groups  # nothing of it is saved


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
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
