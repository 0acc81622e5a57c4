"""Muon: its matrices are orthogonal, everything else moves as SGD moves it, and it goes on from its state."""

import copy

import pytest
import torch
from torch import nn

from engine.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (64, 3, 3, 3), (128, 16, 1, 1), (10, 50), (32, 32)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_steps_are_orthogonal_whatever_their_size(shape: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    step = orthogonalize(torch.randn(shape) * scale)
    assert step.shape == shape
    matrix = step.flatten(1) / max(1.0, shape[0] / step[0].numel()) ** 0.5
    values = torch.linalg.svdvals(matrix)
    assert values.min() > 0.3  # the smallest of a square random matrix is nearly 0, and comes up last
    assert values.max() < 1.3
    assert 0.7 < values.median() < 1.2


def test_a_step_points_where_the_gradient_does() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(16, 8, 3, 3)
    left, _, right = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    nearest = left @ right
    ours = orthogonalize(gradient).flatten(1)
    assert torch.cosine_similarity(ours.flatten(), nearest.flatten(), dim=0) > 0.97


def test_other_weights_move_as_with_sgd() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(5, 3)
    theirs = copy.deepcopy(ours)
    muon = Muon([{"params": ours.parameters(), "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}])
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    for _ in range(5):
        images = torch.randn(4, 5)
        for network, optimizer in ((ours, muon), (theirs, sgd)):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-6)


def test_decay_of_filters_does_not_pass_through_momentum() -> None:
    filters = nn.Parameter(torch.ones(4, 4, 1, 1))
    filters.grad = torch.zeros_like(filters)
    Muon([{"params": [filters], "lr": 0.1, "weight_decay": 0.5, "orthogonal": True}]).step()
    assert torch.allclose(filters, torch.full_like(filters, 0.95))


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    def train(network: nn.Module, optimizer: Muon, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            network(images).square().mean().backward()
            optimizer.step()

    def made() -> tuple[nn.Module, Muon]:
        torch.manual_seed(0)
        network = nn.Conv2d(3, 8, 3)
        filters, rest = [network.weight], [network.bias]
        return network, Muon([{"params": filters, "orthogonal": True}, {"params": rest, "lr": 0.1}])

    through, optimizer = made()
    train(through, optimizer, range(6))
    first, optimizer = made()
    train(first, optimizer, range(3))
    again, resumed = made()
    again.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    train(again, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(through.parameters(), again.parameters(), strict=True))
