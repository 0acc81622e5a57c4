"""A rank's device, the GPU of its number or the only one that its launcher shows it; its network in DDP."""

import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from engine.queue.allocation import machine_names
from engine.training.distributed import rank
from engine.training.distributed.process_group import ProcessGroup, RankInfo
from presets.errors import CifartuiError


def place(number: int, *, device: str = "", gpu: str = "", num_ranks: int = 4) -> RankInfo:
    return RankInfo(number, number, num_ranks, "node", "gpu-box", 100 + number, device, gpu)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let torch see so many GPUs, each with a UUID by its place."""
    gpus = {"number": 4}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus["number"] > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus["number"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"u{device.index}"))
    return gpus


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_each_rank_has_the_gpu_of_its_number(asked: str, seen: dict[str, int]) -> None:
    assert [rank._device_of(asked, place(number)) for number in range(4)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    seen["number"] = 0
    assert rank._device_of("auto", place(3)) == "cpu"


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_a_rank_that_is_shown_one_gpu_alone_takes_it(asked: str, seen: dict[str, int]) -> None:
    seen["number"] = 1  # as `srun --gpus-per-task=1` does
    assert [rank._device_of(asked, place(number)) for number in range(4)] == ["cuda:0"] * 4


def test_ranks_are_journaled_and_held_by_the_numbers_of_the_machine(
    seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    chosen = rank._on_device(place(1), torch.device("cuda", 0))
    assert (chosen.device, chosen.gpu) == ("cuda:3", "u0")
    assert machine_names(["cuda:0", "cpu"]) == ("cuda:3", "cpu")
    assert rank._on_device(place(1), torch.device("cpu")).device == "cpu"


def test_ranks_that_would_share_a_gpu_are_refused_by_name() -> None:
    own = [place(0, device="cuda:0", gpu="a"), place(1, device="cuda:0", gpu="b")]  # the launcher renumbers
    rank.check_gpus(own)
    rank.check_gpus([place(0, device="cpu"), place(1, device="cpu")])
    with pytest.raises(CifartuiError, match=r"Ranks 0 and 2 on gpu-box have the same GPU \(cuda:0\): start as many"):
        rank.check_gpus([*own, place(2, device="cuda:0", gpu="a")])


def test_a_network_is_wrapped_without_arguments_that_torch_deprecates() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        group = ProcessGroup.__new__(ProcessGroup)
        group.num_ranks, group._device = 2, torch.device("cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            wrapped = group.wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    finally:
        dist.destroy_process_group()
    assert wrapped.forward_sync_buffers is False if hasattr(wrapped, "forward_sync_buffers") else True
