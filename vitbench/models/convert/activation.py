"""Which of our nonlinearities a peer's module computes: told by its values, since every library has names of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitbench.models.blocks import ACTIVATIONS
from vitbench.models.convert.source import refuse


def name_of_activation(field: str, function: Callable[[Tensor], Tensor]) -> str:
    """The value of `ViTConfig.activation` that `function` is. Raises ValueError with `field` where it is none."""
    x = torch.linspace(-4, 4, 65, dtype=torch.float64, device="cpu")
    called = getattr(function, "__name__", type(function).__name__)
    learned = isinstance(function, nn.Module) and any(True for _ in function.parameters())
    for name, ours in ACTIVATIONS.items():
        if not learned and torch.allclose(function(x.clone()), ours(x), rtol=0, atol=1e-12):
            return name
    raise refuse(field, called, f"activations are {', '.join(ACTIVATIONS)}")
