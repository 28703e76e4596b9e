"""Which parts of a model can native operators compute, and when? Norms of the residual stream, MLPs, attention, blocks.

Each class is one of the model's with another `forward`, and computes as that one does where it cannot do so natively.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import DropPath
from torch import Tensor, nn

from vitbench.kernels import native, operators
from vitbench.kernels.choice import usable
from vitbench.models.attention import FEW_TOKENS, Attention
from vitbench.models.blocks import MLP, Block, LayerScale
from vitbench.models.parts import ALL
from vitbench.models.positions import RelativePosition, RotaryPosition


class NativeLayerNorm(nn.LayerNorm):
    """One pass from the float32 residual stream to the bf16 that matrix products take."""

    def forward(self, x: Tensor) -> Tensor:
        if usable(x, self.weight, self.bias):
            return operators.norm(x, self.weight, self.bias, self.eps)
        return super().forward(x)


class NativeMLP(MLP):
    """Both products, the nonlinearity and its bias in one operator."""

    def forward(self, x: Tensor, *, add_bias: bool = True) -> Tensor:
        """Without `add_bias`, the last bias is left to whoever adds the result to the residual stream."""
        if self._is_usable(x):
            out = operators.mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.activation)
            return out + self.fc2.bias.to(x.dtype) if add_bias else out
        return super().forward(x) if add_bias else F.linear(self.hidden(x), self.fc2.weight)

    def _is_usable(self, x: Tensor) -> bool:
        drops_out = self.training and self.dropout.p > 0
        return (
            x.dtype == torch.bfloat16
            and self.activation in operators.ACTIVATIONS
            and len(self.fc1.weight) % native.LANES == 0
            and not drops_out
            and type(self.fc1) is type(self.fc2) is nn.Linear
            and usable(x, *self.fc1.parameters(), *self.fc2.parameters())
        )


class NativeAttention(Attention):
    """Projections, norms and rotation of queries and keys, logits of relative positions and both products in one operator."""

    def forward(self, x: Tensor, *, read: slice = ALL, add_bias: bool = True) -> Tensor:
        """Without `add_bias`, the projection's bias is left to whoever adds the result to the residual stream."""
        if self._is_usable(x):
            weights = self.qkv.weight, self.qkv.bias, self.proj.weight
            out = operators.self_attention(x, *weights, num_heads=self.num_heads, read=read, between=self._between())
            if add_bias and self.proj.bias is not None:
                out = out + self.proj.bias.to(out.dtype)
        else:
            attended = self.attend(x, read)
            out = self.proj(attended) if add_bias else F.linear(attended, self.proj.weight)
        dropped: Tensor = self.proj_dropout(out)
        return dropped

    def _between(self) -> operators.Between:
        norms = [norm for norm in (self.q_norm, self.k_norm) if isinstance(norm, nn.LayerNorm)]
        return operators.Between(
            turns=None if self.rotary is None else turns_of(self.rotary),
            norms=torch.stack([p for norm in norms for p in (norm.weight, norm.bias)]) if norms else None,
            norm_eps=norms[0].eps if norms else 0.0,
            table=None if self.relative is None else self.relative.table,
            prefix=0 if self.relative is None else self.relative.num_prefix_tokens,
        )

    def _is_usable(self, x: Tensor) -> bool:
        drops_out = self.training and self.dropout > 0
        head_dim = self.qkv.in_features // self.num_heads
        within = [part for part in (self.q_norm, self.k_norm, self.relative) if part is not None]
        return (
            self.kernel == "auto"
            and x.dtype == torch.bfloat16
            and x.shape[1] <= FEW_TOKENS[x.dtype]
            and head_dim % native.LANES == 0
            and not (self.position or drops_out)
            and type(self.qkv) is type(self.proj) is nn.Linear
            and _are_alike(self.q_norm, self.k_norm)
            and type(self.relative) in (type(None), RelativePosition)
            and usable(x, *(p for part in (self.qkv, self.proj, *within) for p in part.parameters()))
        )


def _are_alike(q_norm: nn.Module, k_norm: nn.Module) -> bool:
    """Whether queries and keys are normed by LayerNorms with weight and bias that differ in these alone, or not at all."""
    if type(q_norm) is type(k_norm) is nn.LayerNorm:
        return q_norm.eps == k_norm.eps and all(norm.bias is not None for norm in (q_norm, k_norm))
    return type(q_norm) is type(k_norm) is nn.Identity


class NativeBlock(Block):
    """A branch's bias, its sum with the stream and the next norm in one pass."""

    def forward(self, x: Tensor, *, read: slice = ALL) -> Tensor:
        attention, norm, mlp = self.attention, self.norm2, self.mlp
        if not self._is_usable(x):
            return super().forward(x, read=read)
        attended = attention(self.norm1(x), read=read, add_bias=False)
        x, normed = operators.add_norm(x[:, read], attended, attention.proj.bias, norm.weight, norm.bias, norm.eps)
        return operators.add(x, mlp(normed, add_bias=False), mlp.fc2.bias)

    def _is_usable(self, x: Tensor) -> bool:
        scales = isinstance(self.scale1, LayerScale) or isinstance(self.scale2, LayerScale)
        return (
            type(self.attention) is NativeAttention
            and type(self.mlp) is NativeMLP
            and type(self.norm2) is NativeLayerNorm
            and not (self.training and (self.mlp.dropout.p > 0 or isinstance(self.drop_path, DropPath)))
            and not scales
            and usable(x, *self.norm2.parameters())
        )


NATIVE: dict[type[nn.Module], type[nn.Module]] = {Attention: NativeAttention, Block: NativeBlock, MLP: NativeMLP}


def turns_of(rotary: RotaryPosition) -> Tensor:
    """[2, N, d] in float32: what each channel of a head is multiplied with, and what its neighbour in the pair is.

    The first channel of a pair has −sin beside its cosine, the second sin. Prefix tokens have 1 and 0.
    """
    cos, sin = rotary.cos.float(), rotary.sin.float()
    channels = torch.stack([torch.stack([cos, cos], dim=-1), torch.stack([-sin, sin], dim=-1)])
    patches = rearrange(channels, "two n pairs pair -> two n (pairs pair)")
    prefix = patches.new_zeros(2, rotary.num_prefix_tokens, patches.shape[-1])
    prefix[0] = 1
    return torch.cat([prefix, patches], dim=1)
