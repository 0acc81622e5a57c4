"""Memory that runs out, simulated in the network's forward pass: smaller parts, the same step, the same loss."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from engine.journal import events
from engine.journal.jsonl import read_events
from engine.runs.run_dir import RunDir
from engine.shared.benchmark_lines import Limit
from engine.training import benchmark, checkpoint_files
from engine.training.microbatch import MicroBatch, is_out_of_memory, parts
from engine.training.setup import Compiled, compile_errors_explained
from engine.training.trainer import Trainer
from engine.training.worker import explain
from presets import catalog, schema
from presets.errors import CifartuiError
from tests.tiny_trainer import CPU, PRESET, make

pytestmark = pytest.mark.slow  # trains

BATCH_NORM = schema.Vgg(blocks=((4,),), pools=("avg",), head=(8,), head_batch_norm=True)


def room_for(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, num_images: int, *, evaluating: bool = False
) -> list[int]:
    """Let the network have room for so many images at once; return the sizes that it was given, as they come."""
    network, seen = trainer._setup.network, list[int]()
    forward = network.forward

    def limited(images: Tensor) -> Any:
        if network.training is not evaluating:
            seen.append(len(images))
            if len(images) > num_images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(images)

    monkeypatch.setattr(network, "forward", limited)
    return seen


def told(folder: RunDir, kind: type[events.Event]) -> list[Any]:
    return [event for event in read_events(folder.events) if isinstance(event, kind)]


def alerts(folder: RunDir) -> list[events.Alerted]:
    return [alert for alert in told(folder, events.Alerted) if alert.kind == "out-of-memory"]


def weights(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer._setup.network.parameters()]


def test_the_step_is_that_of_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, whole_folder = make(tmp_path / "whole")
    whole.run()
    trainer, folder = make(tmp_path / "parts")
    seen = room_for(trainer, monkeypatch, 3)
    trainer.run()
    assert seen[:7] == [8, 4, 2, 2, 2, 2, 2]  # tried whole, tried in halves, and then as it stays
    assert trainer.progress.global_step == 20
    ours, theirs = (told(each, events.EpochCompleted) for each in (folder, whole_folder))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert mine.lr == other.lr
    for mine, other in zip(weights(trainer), weights(whole), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    assert [alert.text.split(": ")[1].split()[3] for alert in alerts(folder)] == ["4", "2"]
    assert "same step" in alerts(folder)[0].text
    assert "batch_size" in alerts(folder)[0].advice


def test_a_resumed_run_begins_with_the_size_that_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, folder = make(tmp_path)
    room_for(first, monkeypatch, 5)
    first.run()
    more = msgspec.structs.replace(PRESET, train=msgspec.structs.replace(PRESET.train, epochs=3))
    second, _ = make(tmp_path, more)
    second.restore(checkpoint_files.load(folder.last))
    seen = room_for(second, monkeypatch, 5)
    second.run()
    assert set(seen) == {4}
    assert len(alerts(folder)) == 1


def test_an_interruption_does_not_show_with_parts_and_dropout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = schema.Vgg(blocks=((4,),), pools=("avg",), head=(8,), dropout=0.5)
    results = []
    for interrupted in (False, True):
        where = tmp_path / str(interrupted)
        trainer, folder = make(where, msgspec.structs.replace(PRESET, model=model))
        room_for(trainer, monkeypatch, 5)
        if interrupted:
            trainer._train_epoch(trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None))
            trainer._save_last()
            trainer._checkpoints.drain()
            trainer, _ = make(where, msgspec.structs.replace(PRESET, model=model))
            trainer.restore(checkpoint_files.load(folder.last))
            room_for(trainer, monkeypatch, 5)
        trainer.run()
        results.append(weights(trainer))
    assert all(torch.equal(mine, other) for mine, other in zip(*results, strict=True))


def test_one_image_that_does_not_fit_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path)
    seen = room_for(trainer, monkeypatch, 0)
    with pytest.raises(CifartuiError, match=r"ran out of memory in training with one image at once.*image_size"):
        trainer.run()
    assert seen == [8, 4, 2, 1]


def test_batchnorm_is_never_given_a_single_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path, msgspec.structs.replace(PRESET, model=BATCH_NORM), num_train=85)  # the last has 5
    seen = room_for(trainer, monkeypatch, 2)
    with pytest.raises(CifartuiError, match="with 3 images at once"):
        trainer.run()
    assert seen == [8, 4, 3]
    fits, _ = make(tmp_path / "fits", msgspec.structs.replace(PRESET, model=BATCH_NORM), num_train=85)
    seen = room_for(fits, monkeypatch, 3)
    assert fits.run().outcome == "completed"
    assert set(seen) == {8, 4, 3, 2}


def test_evaluation_halves_too_and_measures_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path)
    expected = trainer._evaluate("val")
    seen = room_for(trainer, monkeypatch, 7, evaluating=True)
    found = trainer._evaluate("val")
    assert seen == [16, 8, 4, 4, 4, 4]
    assert (found.hits, found.num_images) == (expected.hits, expected.num_images)
    assert found.loss == pytest.approx(expected.loss)
    trainer._evaluate("test")
    assert seen[6:] == [4, 4, 4, 4]  # the size that fits is remembered
    assert all("in evaluation" in alert.text for alert in alerts(folder))


NO_MEMORY: list[RuntimeError] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError(
        "MPS backend out of memory (MPS allocated: 8.13 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)"
    ),
    RuntimeError("Invalid buffer size: 24.00 GB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    TorchDynamoException("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:60])
def test_whoever_runs_out_of_memory_is_understood(error: RuntimeError) -> None:
    assert is_out_of_memory(error)
    seen = []

    def attempt(num_images: int) -> int:
        seen.append(num_images)
        if num_images > 2:
            with compile_errors_explained():
                raise error
        return num_images

    assert MicroBatch(8, CPU, lambda _alert: None).run(attempt, 8) == 2
    assert seen == [8, 4, 2]
    assert "ran out of memory; train again with a smaller train.batch_size" in explain(error)


def test_an_error_that_follows_from_one_is_one() -> None:
    def fail() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("the capture was invalidated")  # as the end of a recording does

    with pytest.raises(RuntimeError, match="invalidated") as caught:
        fail()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "text", ["CUDA error: device-side assert triggered", "mat1 and mat2 shapes cannot be multiplied"]
)
def test_other_errors_are_nobodys_memory(text: str) -> None:
    def attempt(_num_images: int) -> int:
        raise RuntimeError(text)

    assert not is_out_of_memory(RuntimeError(text))
    with pytest.raises(RuntimeError, match=text):
        MicroBatch(8, CPU, lambda _alert: None).run(attempt, 8)


def test_the_optimizers_first_step_without_memory_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _folder = make(tmp_path)

    def no_state(*_args: object, **_more: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(trainer._train_state.stage_optimizer.optimizer, "step", no_state)
    with pytest.raises(CifartuiError, match=r"ran out of memory in the optimizer's step.*smaller network"):
        trainer.run()


def test_what_a_compiled_network_held_is_gone_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[weakref.ref[Tensor]] = []

    def fail(images: Tensor) -> Tensor:
        activations = images * 2
        left.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda _network, **_more: fail)
    compiled = Compiled(torch.nn.Identity(), "default", 4)
    gc.disable()  # an error that refers to itself is freed by a collection only
    try:
        with suppress(torch.OutOfMemoryError):
            compiled(torch.ones(4))
        assert left[0]() is None
    finally:
        gc.enable()


def test_halving_helps_a_compiled_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_network: torch.nn.Module, **_more: object) -> object:
        def fail(_images: Tensor) -> Tensor:
            raise TorchDynamoException("OutOfMemoryError: CUDA out of memory")

        return fail

    monkeypatch.setattr(torch, "compile", no_room)
    train = msgspec.structs.replace(PRESET.train, compile="default")
    trainer, folder = make(tmp_path / "compiled", msgspec.structs.replace(PRESET, train=train))
    assert trainer.run().outcome == "completed"
    assert [alert.text.split(": ")[1].split()[3] for alert in alerts(folder)] == ["4"]
    plain, _ = make(tmp_path / "plain")
    plain.run()
    for mine, other in zip(weights(trainer), weights(plain), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_a_benchmark_goes_on_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_args: object) -> object:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    def limits() -> Iterator[Limit]:
        yield Limit(what="matmul", precision="fp32", per_s=1.0)
        no_room()

    monkeypatch.setattr(benchmark, "random_setup", no_room)
    speed = benchmark._speed(CPU, "basenet", catalog.load("basenet"), "fp32", {}, 0.1)
    assert (speed.images_per_s, speed.trouble) == (None, "The device ran out of memory.")
    assert [limit.what for limit in benchmark._if_there_is_room(limits())] == ["matmul"]


def test_the_tensors_of_a_failed_attempt_are_gone_before_the_next() -> None:
    class Marked:
        pass

    left: list[Any] = []

    def attempt(num_images: int) -> int:
        assert all(each() is None for each in left)
        held = Marked()
        left.append(weakref.ref(held))
        if num_images > 1:
            raise torch.OutOfMemoryError
        return num_images

    assert MicroBatch(4, CPU, lambda _alert: None).run(attempt, 4) == 1
    assert len(left) == 3


@pytest.mark.parametrize(
    ("batch", "at_once", "sizes"), [(8, 8, [8]), (8, 3, [3, 3, 2]), (5, 4, [3, 2]), (9, 4, [3, 3, 3])]
)
def test_parts_are_equal_and_their_shares_come_to_one(batch: int, at_once: int, sizes: list[int]) -> None:
    found = list(parts(torch.arange(batch), torch.arange(batch), at_once))
    assert [len(images) for images, _labels, _share in found] == sizes
    assert sum(share for _images, _labels, share in found) == pytest.approx(1)
    assert torch.equal(torch.cat([labels for _images, labels, _share in found]), torch.arange(batch))
