"""The moving average of weights: the numbers, what is copied, and that nothing is trained through it."""

import pytest
import torch
from torch import nn

from engine.training.ema import Ema


def test_it_is_the_exponential_mean_once_it_is_warm() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = Ema(network, 0.9)
    expected = 0.0
    for step in range(1, 201):
        nn.init.constant_(network.weight, float(step))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(ema.network.weight) == pytest.approx(expected, rel=1e-5)
    assert float(ema.network.weight) == pytest.approx(200 - 9, abs=0.1)  # nine steps behind what rises by one a step


def test_statistics_are_averaged_and_counts_copied() -> None:
    network = nn.BatchNorm2d(2)
    ema = Ema(network, 0.5)
    network.running_mean += 1.0
    network.num_batches_tracked += 7
    ema.update(1000)
    assert ema.network.running_mean.tolist() == [0.5, 0.5]
    assert int(ema.network.num_batches_tracked) == 7


def test_it_keeps_out_of_training() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    ema = Ema(network, 0.9)
    assert not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
    before = network[0].weight.clone()
    ema.update(5)
    assert torch.equal(network[0].weight, before)


def test_it_begins_anew_where_it_is_told_to() -> None:
    network = nn.Linear(2, 2)
    ema = Ema(network, 0.999)
    nn.init.ones_(network.weight)
    ema.restart()
    assert torch.equal(ema.network.weight, network.weight)
