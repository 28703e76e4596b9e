"""What every parameter starts as: a function of the seed and its own name alone, so that what two arms share starts equal."""

from __future__ import annotations

import math

import torch
from torch import nn

from vitbench.models.blocks import LayerScale
from vitbench.models.heads import AttentionPool
from vitbench.models.parts import check_filled, errors_of, isolated, parts_of
from vitbench.models.positions import Learned1D, Learned2D, RelativePosition
from vitbench.models.seeding import key

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

    In users' parts the same holds for the layers of `_LAYERS` and what is ours; all else (their own parameters, other layers
    of torch's) stays as their constructors have it, and their `init_weights()`, where there is one, is called at last, with
    torch's generator at a key of its own.
    """
    parts = parts_of(model)
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner_name, _, leaf = name.rpartition(".")
        owner = modules[owner_name]
        if any(name.startswith(f"{part}.") for part in parts) and not _is_ruled(owner, leaf):
            continue
        generator = torch.Generator().manual_seed(key(seed, name))
        values = torch.empty(parameter.shape, dtype=torch.float32)
        if isinstance(owner, LayerScale):
            values.fill_(owner.initial)
        elif leaf == "bias":
            values.zero_()
        elif isinstance(owner, _NORMS):
            values.fill_(1.0)
        elif owner_name.endswith("classifier"):
            values.normal_(0.0, CLASSIFIER_STD, generator=generator)
        elif isinstance(owner, nn.Linear):
            fused = {"qkv": 3, "kv": 2}.get(owner_name.rpartition(".")[2], 1)
            bound = math.sqrt(6 / (owner.in_features + owner.out_features / fused))
            values.uniform_(-bound, bound, generator=generator)
        elif isinstance(owner, _CONVOLUTIONS):
            values.normal_(0.0, math.sqrt(1 / values[0].numel()), generator=generator)
        else:
            # The model's width, not the table's: 2-D tables are half as wide and must not start larger for it.
            values.normal_(0.0, width**-0.5, generator=generator)
        parameter.copy_(values)

    for name, part in parts.items():
        if callable(initialise := getattr(part, "init_weights", None)):
            with (
                isolated(key(seed, f"{name}.init_weights")),
                errors_of(f"{name} {type(part).__name__}", "fails in init_weights()"),
            ):
                initialise()
    for name, part in parts.items():
        check_filled(part, f"{name} {type(part).__name__}")


_NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LAYERS = (nn.Linear, nn.Embedding, *_CONVOLUTIONS, *_NORMS)
_OURS = {
    LayerScale: ("gamma",),
    AttentionPool: ("query",),
    Learned1D: ("class_token", "table"),
    Learned2D: ("rows", "columns"),
    RelativePosition: ("table",),
}
"""Parameters of ours by the class that makes them, and leaves them empty."""


def _is_ruled(owner: nn.Module, leaf: str) -> bool:
    """Whether `initialize` has a rule for this parameter of a module in a user's part."""
    if isinstance(owner, _LAYERS):
        return leaf in ("weight", "bias")
    return any(isinstance(owner, kind) and leaf in names for kind, names in _OURS.items())
