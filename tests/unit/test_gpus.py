"""Which GPU "auto" comes to: the emptiest that CUDA counts, by numbers that NVML and CUDA agree on."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.journal.events import DeviceSampled, GpuSample, MigSample
from engine.journal.jsonl import EventWriter, read_events
from engine.queue.allocation import machine_names
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import emptiest, free_bytes, on_machine, visible_gpus
from engine.shared.sampling import HostReader
from engine.training.device import choose_device
from engine.training.telemetry import Telemetry
from tui.data import memory_fit
from tui.data.environment import GpuReadings

GB = 10**9


def gpu(index: int, used_gb: float | None, total_gb: int = 80, uuid: str = "", **more: Any) -> GpuSample:
    used = None if used_gb is None else int(used_gb * GB)
    total = total_gb * GB
    return GpuSample(index=index, name="GPU", memory_used_bytes=used, memory_total_bytes=total, uuid=uuid, **more)


FOUR = [gpu(0, 70), gpu(1, 30), gpu(2, 1.5), gpu(3, 1)]
PARTS = (
    MigSample(uuid="MIG-41aa", memory_used_bytes=GB, memory_total_bytes=10 * GB),
    MigSample(uuid="MIG-42bb", memory_used_bytes=2 * GB, memory_total_bytes=20 * GB),
)
NAMED = [gpu(0, 1, uuid="GPU-8a3f-0"), gpu(1, 2, uuid="GPU-8a77-1"), gpu(2, 3, uuid="GPU-9c00-2", migs=PARTS)]


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
    ("visible", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("3,1", [3, 1]),
        (" 2 , 0", [2, 0]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),  # what SLURM sets for a job without a GPU
        ("0,2,-1,1", [0, 2]),  # the list ends at the first invalid entry
        ("2,9,1", [2]),
        ("2,x,1", [2]),
        ("1,,0", [1]),
        ("1gpu,+2", [1, 2]),
        ("1,1", []),
        ("1,GPU-8a3f", [1]),
        ("GPU-8a3f", None),  # NVML does not say which this is
        ("MIG-41aa", None),
    ],
)
def test_cuda_counts_those_that_it_is_shown(visible: str | None, indices: list[int] | None) -> None:
    found = visible_gpus(FOUR, visible)
    assert (None if found is None else [each.index for each in found]) == indices


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("GPU-9c00-2,GPU-8a3f-0", [2, 0]),
        ("GPU-8a7,GPU-9", [1, 2]),  # a unique beginning is enough
        ("GPU-9,GPU-8,GPU-8a7", [2]),  # and one that is not is invalid
        ("GPU-9,GPU-ffff,GPU-8a7", [2]),
        ("GPU-9,0", [2]),
        ("GPU-9,GPU-9c", []),
        ("GPU-ffff", []),
        ("MIG-42bb", [2]),
        ("MIG-41,MIG-42", [2]),
        ("MIG-4", []),
        ("MIG-GPU-8a3f-0/1/0", [0]),
        ("1,GPU-9", [1]),
    ],
)
def test_uuids_are_resolved_as_cuda_does(visible: str, indices: list[int]) -> None:
    found = visible_gpus(NAMED, visible)
    assert found is not None
    assert [each.index for each in found] == indices


def test_a_mig_device_has_the_memory_of_its_part() -> None:
    found = [visible_gpus(NAMED, visible) for visible in ("MIG-42bb", "MIG-41aa,MIG-42bb", "MIG-GPU-8a3f-0/1/0")]
    assert [free_bytes(each) for gpus in found if gpus for each in gpus] == [18 * GB, 9 * GB, None]


def test_the_machines_name_of_a_gpu_named_by_uuid_is_its_number_there() -> None:
    assert on_machine("cuda:1", "GPU-9,GPU-8a7", NAMED) == "cuda:1"
    assert on_machine("cuda", "GPU-9,GPU-8a7", NAMED) == "cuda:2"
    assert on_machine("cuda:0", "MIG-41aa", NAMED) == "cuda:2"
    assert on_machine("cuda:0", "GPU-9") == "cuda:0"  # without readings


def test_a_worker_holds_the_gpu_that_its_uuid_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceReader, "sample", lambda _reader: (tuple(NAMED), ""))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-9c00-2,GPU-8a77-1")
    assert machine_names(["cuda:0", "cuda:1", "cpu"]) == ("cuda:2", "cuda:1", "cpu")


@pytest.mark.parametrize("visible", ["NoDevFiles", "-1", "GPU-ffff"])
def test_with_no_gpu_left_it_is_the_machines_memory_that_counts(visible: str) -> None:
    readings = GpuReadings(gpus=tuple(NAMED), missing="", num_cores=4, host_free_bytes=5 * GB)
    assert memory_fit.free_memory("auto", readings, visible) == memory_fit.FreeMemory(None, 5 * GB)
    assert not memory_fit.is_on_gpu("auto", readings, visible)


def test_what_never_changes_of_a_gpu_is_not_journalled_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeviceReader, "sample", lambda _reader, _pid: (tuple(NAMED), ""))
    journal = EventWriter(tmp_path / "events.jsonl")
    with DeviceReader() as reader:
        Telemetry(journal, 1, tmp_path)._beat(HostReader(), reader, 0.0)
    [sampled] = [event for event in read_events(tmp_path / "events.jsonl") if isinstance(event, DeviceSampled)]
    assert [gpu.memory_used_bytes for gpu in sampled.gpus] == [GB, 2 * GB, 3 * GB]
    assert {(gpu.uuid, gpu.migs) for gpu in sampled.gpus} == {("", ())}


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
