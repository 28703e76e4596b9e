"""Does BatchNorm over ranks compute what torch's computes on the whole batch? Several ranks: tests/execution/test_ranks.py."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn

from vitbench.ranks import Ranks, joined
from vitbench.training.whole_batch_norm import share_statistics


@pytest.fixture
def two_ranks():
    """Two by name, of which this one has all images: its group is of one."""
    with joined(dist.HashStore(), 0, 1, torch.device("cpu")):
        yield Ranks(0, 2)


NORMS = {
    "1d": (lambda: nn.BatchNorm1d(3), (7, 3)),
    "of sequences": (lambda: nn.BatchNorm1d(3), (7, 3, 5)),
    "2d": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 6)),
    "3d": (lambda: nn.BatchNorm3d(3), (4, 3, 2, 5, 6)),
    "timm's, with its activation": (lambda: BatchNormAct2d(3), (4, 3, 5, 6)),
    "a mean of all batches": (lambda: nn.BatchNorm2d(3, momentum=None), (4, 3, 5, 6)),
    "without weights": (lambda: nn.BatchNorm2d(3, affine=False), (4, 3, 5, 6)),
    "without running statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 6)),
}


@pytest.mark.against("torch.nn.BatchNorm", "outputs, gradients and running statistics in float64", "1e-12")
@pytest.mark.parametrize("name", NORMS)
def test_outputs_gradients_and_statistics_are_those_of_torch(two_ranks, name):
    make, shape = NORMS[name]
    torch.manual_seed(0)
    norms = nn.ModuleList([make()]).double()
    for parameter in norms.parameters():
        nn.init.normal_(parameter)
    peer = copy.deepcopy(norms)
    share_statistics(norms, two_ranks)
    assert isinstance(norms[0], type(peer[0])) and type(norms[0]) is not type(peer[0])
    for _ in range(2):
        images = torch.randn(shape, dtype=torch.float64) * 3 + 2
        weights = torch.randn(shape, dtype=torch.float64)
        results = []
        for module in (norms, peer):
            x = images.clone().requires_grad_()
            out = module[0](x)
            module.zero_grad()
            (out * weights).sum().backward()
            results.append([out, x.grad, *(p.grad for p in module.parameters()), *module.buffers()])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norms.eval()[0](images), peer.eval()[0](images))


def test_bf16_stays_bf16_and_statistics_are_of_float32(two_ranks):
    norm = nn.Sequential(nn.BatchNorm2d(3))
    share_statistics(norm, two_ranks)
    images = torch.randn(4, 3, 5, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(images).dtype == torch.bfloat16
    torch.testing.assert_close(norm[0].running_mean, 0.1 * images.float().mean((0, 2, 3)))


def test_one_process_keeps_torchs_own():
    norm = nn.Sequential(nn.BatchNorm2d(3))
    share_statistics(norm, Ranks())
    assert type(norm[0]) is nn.BatchNorm2d


def test_a_batch_norm_of_its_own_kind_is_refused():
    class MyNorm(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match=r"^1 is a MyNorm, .* on each of 2 devices; use one device for this run"):
        share_statistics(nn.Sequential(nn.Linear(2, 2), MyNorm(3)), Ranks(0, 2))
