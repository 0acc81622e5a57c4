"""Images that do not fit the GPU: kept with the host, gathered ahead of the loop, and sent batch by batch."""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.data.sets import ImageSplit
from engine.training import setup
from engine.training.device import copy_to
from engine.training.input_pipeline import HostImages, SplitInputs
from tests.pretended_gpu import Copies

NUM_BYTES = 10 * 3 * 32 * 32
CPU = torch.device("cpu")


@pytest.mark.parametrize(("free_bytes", "place"), [(NUM_BYTES, "cpu"), (10 * NUM_BYTES, "cuda")])
def test_where_images_are_kept(monkeypatch: pytest.MonkeyPatch, free_bytes: int, place: str) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free_bytes, free_bytes))
    with FakeTensorMode():
        images, labels = torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64)
        split = setup._to(ImageSplit(images, labels), torch.device("cuda"))
        assert (split.images.device.type, split.labels.device.type) == (place, "cuda")


def test_batches_arrive_where_the_labels_are() -> None:
    meta = torch.device("meta")  # stands for a device that is not the host's memory
    images = torch.zeros(10, 3, 32, 32, dtype=torch.uint8)
    split = ImageSplit(images, torch.zeros(10, dtype=torch.int64, device=meta))
    inputs = SplitInputs(torch.nn.Flatten(), split, lambda batch: batch, host=HostImages(images, meta))
    batch, labels = inputs.take(torch.arange(4))
    assert (batch.device.type, labels.device.type) == ("meta", "meta")
    assert (batch.shape, labels.shape) == ((4, 3, 32, 32), (4,))


@pytest.mark.parametrize(("device", "goes_on"), [("meta", False), ("cuda", True)])
def test_only_cuda_is_copied_to_without_waiting(device: str, goes_on: bool) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), Copies() as copies:
        assert copy_to(torch.zeros(4, dtype=torch.int64), torch.device(device)).device.type == device
    assert copies.goes_on == [goes_on]


def test_rows_are_copied_that_way() -> None:
    meta = torch.device("meta")  # stands for a device that is neither the host's memory nor CUDA's
    with Copies() as copies:
        images, labels = torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64, device=meta)
        split, network = ImageSplit(images, labels), torch.nn.Flatten()
        inputs = SplitInputs(network, split, lambda batch: batch, host=HostImages(images, meta))
        inputs.take(torch.arange(4))
        inputs.labels(torch.arange(4))
    assert sum({"cpu", "meta"} <= devices for devices in copies.devices) == 3
    assert not any(copies.goes_on)


def test_nothing_else_goes_on_unless_an_event_is_waited_for() -> None:
    root = Path(setup.__file__).parents[1]
    goes_on = {path.name for path in root.rglob("*.py") if "non_blocking=True" in path.read_text(encoding="utf-8")}
    assert goes_on == {"input_pipeline.py", "benchmark.py"}  # to CUDA, with an event; a measurement that synchronises


def test_what_is_expected_is_gathered_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    host, threads = HostImages(torch.arange(10), CPU), []
    gather = host._gather

    def watched(rows: Tensor) -> tuple[Tensor, object]:
        threads.append(threading.current_thread())
        return gather(rows)

    monkeypatch.setattr(host, "_gather", watched)
    first, second, third = torch.tensor([3, 1]), torch.tensor([2]), torch.tensor([9, 8])
    host.expect(second)
    host.expect(third)
    assert host.take(second).tolist() == [2]
    assert host.take(third).tolist() == [9, 8]
    assert threading.main_thread() not in threads
    host.expect(second)
    assert host.take(first).tolist() == [3, 1]  # others than expected: those are dropped
    assert host.take(second).tolist() == [2]
    assert threads.count(threading.main_thread()) == 2


def test_on_cuda_images_are_gathered_straight_into_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, empty = list[Tensor](), torch.empty

    def allocate(*size: int, pin_memory: bool = False, **options: Any) -> Tensor:
        made = empty(*size, **options)
        if pin_memory:
            pinned.append(made)
        return made

    class Gathered(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            done.append(str(func))
            return func(*args, **(kwargs or {}))

    images, done = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8), list[str]()
    rows = torch.tensor([7, 2])
    host = HostImages(images, torch.device("meta"))
    host._stream = mock.Mock()  # as on CUDA, of which nothing else is here
    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", mock.Mock())
    with Gathered():
        host._gather(rows)
    assert [name for name in done if "empty" not in name] == ["aten.index_select.out", "aten._to_copy.default"]
    assert len(pinned) == 1
    assert torch.equal(pinned[0], images[rows])


def test_images_that_cannot_be_read_are_the_loops_concern() -> None:
    host = HostImages(torch.arange(10), CPU)
    host.expect(torch.tensor([10]))
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        host.take(torch.tensor([10]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_copies_on_a_stream_of_their_own_arrive_whole() -> None:
    images = torch.randint(256, (4096, 3, 64, 64), dtype=torch.uint8)
    host, device = HostImages(images, torch.device("cuda")), torch.device("cuda")
    batches = [torch.randperm(len(images))[:512] for _ in range(20)]
    busy = torch.rand(2048, 2048, device=device)
    for rows, following in zip(batches, [*batches[1:], None], strict=True):
        if following is not None:
            host.expect(following)
        taken = host.take(rows)
        for _ in range(10):
            busy = torch.tanh(busy @ busy)
        assert torch.equal(taken.cpu(), images[rows])
