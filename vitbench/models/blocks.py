"""The pre-norm encoder block: attention, then MLP, each on a residual branch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.kernels import native, operators
from vitbench.models.attention import Attention
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

    def forward(self, x: Tensor, *, add_bias: bool = True) -> Tensor:
        """[..., D] → [..., D]. Without `add_bias`, the last bias is left to whoever adds the result to a residual stream."""
        if self._is_native(x):
            x = operators.mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.activation)
            return x + self.fc2.bias.to(x.dtype) if add_bias else x
        x = self.fc1(x)
        if self.activation == "swiglu":
            gate, value = x.chunk(2, dim=-1)
            x = F.silu(gate) * value
        else:
            x = ACTIVATIONS[self.activation](x)
        x = self.dropout(x)
        return self.dropout(self.fc2(x) if add_bias else F.linear(x, self.fc2.weight))

    def _is_native(self, x: Tensor) -> bool:
        drops_out = self.training and self.dropout.p > 0
        return (
            x.dtype == torch.bfloat16
            and self.activation in operators.ACTIVATIONS
            and len(self.fc1.weight) % native.LANES == 0
            and not drops_out
            and type(self.fc1) is type(self.fc2) is nn.Linear
            and native.usable(x, *self.fc1.parameters(), *self.fc2.parameters())
        )


class LayerNorm(nn.LayerNorm):
    """torch's, in one pass from a float32 residual stream to what matrix products take, where there is one."""

    def forward(self, x: Tensor) -> Tensor:
        if native.usable(x, self.weight, self.bias):
            return operators.norm(x, self.weight, self.bias, self.eps)
        return super().forward(x)


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
        self,
        config: ViTConfig,
        *,
        drop_path: float,
        relative: RelativePosition | None,
        rotary: RotaryPosition | None,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, relative=relative, rotary=rotary)
        self.norm2 = LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config, dropout=config.dropout)
        scale = config.layer_scale
        self.scale1 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.scale2 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, *, read: slice | None = None) -> Tensor:
        """With `read`, only those tokens come out, [B, M, D]: what nobody reads afterwards is not computed."""
        if self._is_native(x):
            return self._native(x, read)
        attended = self.drop_path(self.scale1(self.attention(self.norm1(x), read=read)))
        x = (x if read is None else x[:, read]) + attended
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))

    def _native(self, x: Tensor, read: slice | None) -> Tensor:
        attended = self.attention(self.norm1(x), read=read, add_bias=False)
        norm = self.norm2
        x, normed = operators.add_norm(
            x if read is None else x[:, read], attended, self.attention.proj.bias, norm.weight, norm.bias, norm.eps
        )
        return operators.add(x, self.mlp(normed, add_bias=False), self.mlp.fc2.bias)

    def _is_native(self, x: Tensor) -> bool:
        """Whether norms and residual sums are: nothing but a bias comes between a branch and its sum with the stream."""
        drops = self.training and (self.mlp.dropout.p > 0 or isinstance(self.drop_path, DropPath))
        scales = isinstance(self.scale1, LayerScale) or isinstance(self.scale2, LayerScale)
        return not drops and not scales and type(self.norm2) is LayerNorm and native.usable(x, *self.norm2.parameters())
