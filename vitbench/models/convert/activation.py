"""Which of our nonlinearities a peer's module computes: told by its values, since every library has names of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitbench.models.blocks import ACTIVATIONS
from vitbench.models.convert.source import refuse


def name_of_activation(field: str, function: Callable[[Tensor], Tensor]) -> str:
    """The value of `ViTConfig.activation` that `function` is. Raises ValueError with `field` where it is none."""
    x = torch.linspace(-4, 4, 65, dtype=torch.float64)
    for name, ours in ACTIVATIONS.items():
        if torch.allclose(function(x.clone()), ours(x), rtol=0, atol=1e-12):
            return name
    known = ", ".join(ACTIVATIONS)
    raise refuse(field, getattr(function, "__name__", type(function).__name__), f"activations are {known}")
