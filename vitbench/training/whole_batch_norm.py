"""How does BatchNorm normalise by the statistics of the whole batch, where several processes have a part of it each?

torch's SyncBatchNorm does so on GPUs alone; this does on CPU too, so that both are one code, tested with gloo.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from vitbench.ranks import Ranks


def share_statistics(model: nn.Module, ranks: Ranks) -> None:
    """Has every BatchNorm of a model normalise by the whole batch in training. Parameters, buffers and names stay.

    Raises ValueError for a BatchNorm that computes in its own way.
    """
    if ranks.size == 1:
        return
    for name, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or isinstance(module, nn.SyncBatchNorm):
            continue
        if type(module) not in WHOLE_BATCH:
            raise ValueError(
                f"{name} is a {type(module).__name__}, which normalises by its own part of a batch on each of {ranks.size} "
                "devices; use one device for this run (--devices-per-run 1), or torch's own BatchNorm"
            )
        module.__class__ = WHOLE_BATCH[type(module)]


class _WholeBatch(nn.modules.batchnorm._BatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        return _normalised(self, x) if self.training else super().forward(x)


class WholeBatchNorm1d(_WholeBatch, nn.BatchNorm1d):
    """Of [B, C] or [B, C, L]."""


class WholeBatchNorm2d(_WholeBatch, nn.BatchNorm2d):
    """Of [B, C, H, W]."""


class WholeBatchNorm3d(_WholeBatch, nn.BatchNorm3d):
    """Of [B, C, D, H, W]."""


class WholeBatchNormAct2d(BatchNormAct2d):  # type: ignore[misc]  # timm tells no types
    """timm's: [B, C, H, W], and an activation after it."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.drop(_normalised(self, x))) if self.training else super().forward(x)
        return out


WHOLE_BATCH: dict[type[nn.Module], Any] = {
    nn.BatchNorm1d: WholeBatchNorm1d,
    nn.BatchNorm2d: WholeBatchNorm2d,
    nn.BatchNorm3d: WholeBatchNorm3d,
    BatchNormAct2d: WholeBatchNormAct2d,
}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _normalised(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """Ioffe & Szegedy 2015, Algorithm 1, over a batch of which `x` [b, C, …] is this rank's part; statistics in float32."""
    norm._check_input_dim(x)
    with torch.autocast(x.device.type, enabled=False):
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        count = values.new_tensor([x.numel() / x.shape[1]])
        *sums, total = _Sum.apply(torch.cat([values.sum(dims), count])).split([x.shape[1], 1])
        mean = sums[0] / total
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / total
        if norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                _move(norm, mean, variance * total / (total - 1).clamp(min=1))
        normalised = centred * (variance + norm.eps).rsqrt().view(shape)
        if norm.affine:
            normalised = normalised * norm.weight.view(shape) + norm.bias.view(shape)
        out: Tensor = normalised.to(x.dtype)
        return out


def _move(norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """The running statistics towards those of a batch; `variance` with N − 1."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    factor = 1 / norm.num_batches_tracked.item() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), factor)


class _Sum(torch.autograd.Function):
    """Over all ranks, of which each gets the gradients of all."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
