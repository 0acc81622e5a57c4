"""Muon: its matrices are orthogonal, everything else moves as SGD moves it, and it goes on from its state."""

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks import roofline
from engine.training.muon import Muon, orthogonalize, shares


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (64, 3, 3, 3), (128, 16, 1, 1), (10, 50), (32, 32)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_steps_are_orthogonal_whatever_their_size(shape: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    [step] = orthogonalize([torch.randn(shape) * scale])
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
    ours = orthogonalize([gradient])[0].flatten(1)
    assert torch.cosine_similarity(ours.flatten(), nearest.flatten(), dim=0) > 0.97


def published(step: Tensor, dtype: torch.dtype) -> Tensor:
    """The iteration as it is published, a matrix at a time, operation by operation."""
    matrix = step.flatten(1)
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(dtype)
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    x = x.T if is_tall else x
    return (x * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5).view_as(step).to(step.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_batches_of_filters_come_to_what_the_published_iteration_does(
    memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    shapes = [(16, 8, 3, 3), (64, 3, 3, 3), (16, 8, 3, 3), (8, 16, 1, 1), (16, 8, 3, 3), (64, 3, 3, 3)]
    steps = [torch.randn(shape).to(memory_format=memory_format) for shape in shapes]
    for ours, step in zip(orthogonalize(steps, dtype), steps, strict=True):
        assert (ours.shape, ours.dtype, ours.stride()) == (step.shape, step.dtype, step.stride())
        exact, theirs = (published(step.contiguous(), each) for each in (torch.float32, dtype))
        rounding = max(1e-4 * float(exact.norm()), float((theirs - exact).norm()))
        assert (ours - exact).norm() <= 1.1 * rounding


def test_a_step_of_the_fast_recipe_launches_few_kernels() -> None:
    """558 by the count of operations when a filter took 54 of them."""
    assert roofline.count("recipes/vgg-custom-fast").num_kernels <= 330


def test_ranks_have_shares_of_the_work_that_differ_little() -> None:
    shapes = [torch.Size(shape) for shape in ((64, 27), (64, 576), (512, 4608), (512, 4608), (512, 2304), (256, 2304))]
    assert shares(shapes, 1) == [0] * 6
    owners = shares(shapes, 2)
    assert owners[2] != owners[3]
    costs = [rows * rows * columns for rows, columns in shapes]
    loads = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == rank) for rank in range(2)]
    assert max(loads) < 0.6 * sum(loads)
    assert set(shares(shapes[:2], 8)) < set(range(8))  # more ranks than filters: some have nothing to do


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
