from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.training.checkpoint_staging import StagingBuffers
from tests.pretended_gpu import Copies

CPU = torch.device("cpu")


def test_a_copy_keeps_memory_format_and_plain_values_and_shares_nothing() -> None:
    weights = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    content = {"network": {"w": weights}, "groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}], "none": None}
    taken = StagingBuffers(CPU).take(content)
    taken.wait()
    copied = taken.content["network"]["w"]
    assert torch.equal(copied, weights)
    assert copied.stride() == weights.stride()
    assert copied.data_ptr() != weights.data_ptr()
    assert taken.content["groups"] == content["groups"]
    content["groups"][0]["params"].append(1)
    assert taken.content["groups"][0]["params"] == [0]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_copy_without_an_event_has_ended_when_it_is_handed_over(device: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), Copies() as copies:
        StagingBuffers(torch.device(device)).take({"w": torch.ones(2, device=device)})
    assert copies.goes_on == [False]


def test_a_copy_made_in_an_evaluation_can_be_saved_elsewhere(tmp_path: Path) -> None:
    with torch.inference_mode():
        taken = StagingBuffers(CPU).take({"w": torch.nn.Parameter(torch.ones(2))})
    torch.save(taken.content, tmp_path / "w.pt")
    assert torch.load(tmp_path / "w.pt", weights_only=True)["w"].tolist() == [1.0, 1.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_copy_from_cuda_is_of_the_moment_though_training_goes_on() -> None:
    device = torch.device("cuda", 0)
    weights = torch.zeros(4_000_000, device=device)
    for _ in range(50):
        weights.add_(1.0)
    taken = StagingBuffers(device).take({"w": weights})
    for _ in range(50):
        weights.add_(1.0)
    taken.wait()
    assert taken.content["w"].is_pinned()
    assert bool((taken.content["w"] == 50).all())


def test_memory_is_used_again_once_a_snapshot_is_gone_and_not_before() -> None:
    staging, weights = StagingBuffers(CPU), torch.ones(8)
    first = staging.take({"w": weights})
    second = staging.take({"w": weights + 1})
    assert first.content["w"].tolist() == [1.0] * 8
    place = first.content["w"].data_ptr()
    del first
    third = staging.take({"w": weights + 2})
    assert third.content["w"].data_ptr() == place
    assert second.content["w"].tolist() == [2.0] * 8
