"""What every parameter starts as: a function of the seed and its own name alone, so that what two arms share starts equal."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import nn

from vitbench.models.blocks import LayerScale

CLASSIFIER_STD = 0.02
"""As in timm. Zero, as in the paper's code, would leave the rest of the model without gradient in the first step."""


@torch.no_grad()
def initialize(model: nn.Module, *, width: int, seed: int) -> None:
    """Initialises all parameters in place, each from a generator keyed by (seed, parameter name).

    Linear layers: Xavier uniform, q, k and v each by their own fan (as in the paper's published code); convolutions:
    normal, fan-in; norms: 1 and 0; biases: 0; classifier: normal, σ = 0.02; tokens and position tables: normal,
    σ = 1/√width as in big_vision (at σ = 0.02, narrow models take many epochs to see positions: benchmarks/LOG.md). The
    class token is not zero, as elsewhere: LayerNorm at zero multiplies gradients by 1/√ε, and an arm without
    position would start there.
    """
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner_name, _, leaf = name.rpartition(".")
        owner = modules[owner_name]
        generator = torch.Generator().manual_seed(key(seed, name))
        values = torch.empty(parameter.shape, dtype=torch.float32)
        if isinstance(owner, LayerScale):
            values.fill_(owner.initial)
        elif leaf == "bias":
            values.zero_()
        elif isinstance(owner, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d):
            values.fill_(1.0)
        elif owner_name.endswith("classifier"):
            values.normal_(0.0, CLASSIFIER_STD, generator=generator)
        elif isinstance(owner, nn.Linear):
            fused = {"qkv": 3, "kv": 2}.get(owner_name.rpartition(".")[2], 1)
            bound = math.sqrt(6 / (owner.in_features + owner.out_features / fused))
            values.uniform_(-bound, bound, generator=generator)
        elif isinstance(owner, nn.Conv2d):
            values.normal_(0.0, math.sqrt(1 / values[0].numel()), generator=generator)
        else:
            # The model's width, not the table's: 2-D tables are half as wide and must not start larger for it.
            values.normal_(0.0, width**-0.5, generator=generator)
        parameter.copy_(values)


def key(seed: int, name: str) -> int:
    """A 63-bit integer from seed and name, alike on every platform."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") >> 1
