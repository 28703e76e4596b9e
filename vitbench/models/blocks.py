"""The pre-norm encoder block: attention, then MLP, each on a residual branch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.attention import Attention
from vitbench.models.parts import ALL, build_part

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP's
    "relu": F.relu,
}


class MLP(nn.Module):
    """Two linear layers around a nonlinearity; with `swiglu`, the first gives gate and value (Shazeer 2020).

    The hidden width is `mlp_ratio` × width whatever the activation, so SwiGLU's first layer is twice as large.
    """

    def __init__(self, config: ViTConfig, *, dropout: float | None = None, place: str = "mlp", seed: int = 0) -> None:
        """`dropout` is the configuration's where it is None. `place` and `seed` are for a user's activation."""
        super().__init__()
        self.activation = config.activation
        self.nonlinearity = build_part(
            "activation",
            config,
            place=f"{place}.nonlinearity",
            seed=seed,
            built_in=lambda: None,
        )
        gates = 2 if config.activation == "swiglu" else 1
        self.fc1 = nn.Linear(config.width, gates * config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)
        self.dropout = nn.Dropout(config.dropout if dropout is None else dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.dropout(self.fc2(self.hidden(x)))

    def hidden(self, x: Tensor) -> Tensor:
        """[..., D] → [..., mlp_ratio × D]."""
        x = self.fc1(x)
        if self.activation == "swiglu":
            gate, value = x.chunk(2, dim=-1)
            return self.dropout(F.silu(gate) * value)
        return self.dropout((self.nonlinearity or ACTIVATIONS[self.activation])(x))


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (Touvron et al. 2021, CaiT)."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """[B, N, D] → [B, N, D]. `drop_path`: probability of leaving out a branch for an image (Huang et al. 2016)."""

    def __init__(self, config: ViTConfig, *, drop_path: float, place: str = "block", seed: int = 0) -> None:
        """`place`, the block's name in the model, and `seed` are for users' parts."""
        super().__init__()

        def part(role: str, name: str, built_in: Callable[[], nn.Module]) -> Any:
            return build_part(role, config, place=f"{place}.{name}", seed=seed, built_in=built_in)

        norm = partial(nn.LayerNorm, config.width, eps=config.norm_eps)
        self.norm1 = part("norm", "norm1", norm)
        self.attention = part("attention", "attention", partial(Attention, config))
        self.norm2 = part("norm", "norm2", norm)
        self.mlp = part("mlp", "mlp", partial(MLP, config, dropout=config.dropout, place=f"{place}.mlp", seed=seed))
        scale = config.layer_scale
        self.scale1 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.scale2 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, *, read: slice = ALL) -> Tensor:
        """[B, N, D] → [B, M, D]: the tokens of `read`, which attend to all."""
        x = x[:, read] + self.drop_path(self.scale1(self.attention(self.norm1(x), read=read)))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))
