"""The pre-norm encoder block: attention, then MLP, each on a residual branch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.attention import ALL, Attention
from vitbench.models.positions import RelativePosition, RotaryPosition

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

    def __init__(self, config: ViTConfig, *, dropout: float) -> None:
        super().__init__()
        self.activation = config.activation
        gates = 2 if config.activation == "swiglu" else 1
        self.fc1 = nn.Linear(config.width, gates * config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.dropout(self.fc2(self.hidden(x)))

    def hidden(self, x: Tensor) -> Tensor:
        """[..., D] → [..., mlp_ratio × D]."""
        x = self.fc1(x)
        if self.activation == "swiglu":
            gate, value = x.chunk(2, dim=-1)
            return self.dropout(F.silu(gate) * value)
        return self.dropout(ACTIVATIONS[self.activation](x))


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

    def __init__(
        self, config: ViTConfig, *, drop_path: float, relative: RelativePosition | None, rotary: RotaryPosition | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, relative=relative, rotary=rotary)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config, dropout=config.dropout)
        scale = config.layer_scale
        self.scale1 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.scale2 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, *, read: slice = ALL) -> Tensor:
        """[B, N, D] → [B, M, D]: the tokens of `read`, which attend to all."""
        x = x[:, read] + self.drop_path(self.scale1(self.attention(self.norm1(x), read=read)))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))
