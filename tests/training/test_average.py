"""Is the average the one that is written down, of running statistics too, and are the weights unharmed by it?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vitbench.training.average import Average


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_the_average_is_the_sum_of_all_weights_so_far_each_with_its_own_share():
    net, decay, steps = model(), 0.5, 12
    average = Average(net, decay)
    history = [net[0].weight.detach().double().clone()]
    for step in range(steps):
        with torch.no_grad():
            net[0].weight.add_(torch.randn(4, 3, generator=torch.Generator().manual_seed(step)))
        history.append(net[0].weight.detach().double().clone())
        average.update(step)
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(steps)]
    assert decays[0] == 0.1 and decays[-1] == 0.5 and decays[3] == 4 / 13
    # w(t) came in with 1 − d(t) and was shrunk by every decay after it; the initial weights by all of them.
    shares = [math.prod(decays)] + [(1 - decays[t]) * math.prod(decays[t + 1 :]) for t in range(steps)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weights for share, weights in zip(shares, history, strict=True))
    torch.testing.assert_close(average.tensors[0].double(), expected, rtol=0, atol=1e-6)


def test_running_statistics_are_averaged_and_counts_are_not():
    net = model()
    average = Average(net, 0.5)
    before = net[1].running_mean.clone()
    net(torch.randn(8, 3) + 5)
    after, count = net[1].running_mean.clone(), net[1].num_batches_tracked.clone()
    average.update(100)  # min(0.5, 101 / 110)
    with average.applied():
        torch.testing.assert_close(net[1].running_mean, (before + after) / 2)
        assert torch.equal(net[1].num_batches_tracked, count) and count == 1
    assert torch.equal(net[1].running_mean, after)


def test_weights_come_back_bit_for_bit_also_when_evaluation_fails():
    net = model()
    average = Average(net, 0.9)
    with torch.no_grad():
        net[0].weight.mul_(math.pi)
    weights = net[0].weight.detach().clone()

    def evaluate() -> None:
        with average.applied():
            assert not torch.equal(net[0].weight, weights)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate()
    assert torch.equal(net[0].weight, weights)
