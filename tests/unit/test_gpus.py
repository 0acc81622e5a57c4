"""Which GPU "auto" comes to: the emptiest that CUDA counts, by numbers that NVML and CUDA agree on."""

import os

import pytest
import torch

from engine.journal.events import GpuSample
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import emptiest, free_bytes, visible_gpus
from engine.training.device import choose_device

GB = 10**9


def gpu(index: int, used_gb: float | None, total_gb: int = 80) -> GpuSample:
    used = None if used_gb is None else int(used_gb * GB)
    return GpuSample(index=index, name="GPU", memory_used_bytes=used, memory_total_bytes=total_gb * GB)


FOUR = [gpu(0, 70), gpu(1, 30), gpu(2, 1.5), gpu(3, 1)]


@pytest.mark.parametrize(
    ("gpus", "place"),
    [
        (FOUR, 2),  # the fourth has not half a gigabyte more
        (FOUR[:2], 1),
        ([gpu(0, None), gpu(1, 78)], 1),
        ([gpu(0, None), gpu(1, None)], 0),
        ([gpu(0, 1, 12), gpu(1, 20, 80)], 1),
    ],
)
def test_the_emptiest_is_the_first_with_about_the_most_free_memory(gpus: list[GpuSample], place: int) -> None:
    assert emptiest(gpus) == place


@pytest.mark.parametrize(
    ("visible", "indices"), [(None, [0, 1, 2, 3]), ("3,1", [3, 1]), ("", []), ("GPU-8a3f", None), ("0,9", None)]
)
def test_cuda_counts_those_that_it_is_shown(visible: str | None, indices: list[int] | None) -> None:
    found = visible_gpus(FOUR, visible)
    assert (None if found is None else [each.index for each in found]) == indices


def test_memory_that_is_not_told_is_not_free() -> None:
    assert free_bytes(gpu(0, None)) is None
    assert free_bytes(gpu(0, 90)) == 0


@pytest.mark.parametrize(
    ("visible", "order", "num_seen", "chosen"),
    [
        (None, "PCI_BUS_ID", 4, 2),
        ("0,1", "PCI_BUS_ID", 2, 1),
        ("1,0", "PCI_BUS_ID", 2, 0),
        ("GPU-8a3f,GPU-77aa", "PCI_BUS_ID", 2, 0),
        (None, "PCI_BUS_ID", 3, 0),  # one that torch cannot use: nobody knows which
        (None, "FASTEST_FIRST", 4, 0),
    ],
)
def test_a_worker_takes_the_emptiest_gpu_where_the_numbers_agree(
    visible: str | None, order: str, num_seen: int, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_seen)
    monkeypatch.setattr(DeviceReader, "sample", lambda _reader: (tuple(FOUR), ""))
    monkeypatch.setitem(os.environ, "CUDA_DEVICE_ORDER", order)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_device("auto") == torch.device("cuda", chosen)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
