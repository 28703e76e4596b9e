"""How tokens attend to each other: one function with interchangeable kernels, and the layer around it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitbench.config import ViTConfig
from vitbench.models.parts import ALL, PositionInAttention
from vitbench.models.positions import RelativePosition, RotaryPosition

Kernel = Literal["auto", "fused", "matmul", "flash", "cudnn", "efficient", "math"]
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""Kernels among which torch's scaled_dot_product_attention chooses by itself, by our names."""
FEW_TOKENS = {torch.float32: 256, torch.bfloat16: 1025}
"""Up to here, on CPU, kernels that hold all logits of a head beat those that go through them in blocks (LOG.md).

In bf16 they still do at 2,305 tokens; 1,025 are a grid of 32 × 32 and a class token. Beyond, the weights that are kept for the
backward pass, [B, H, N, N], take more memory than all other activations of a block, at heads of 64."""


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, dropout: float = 0.0, kernel: Kernel = "auto"
) -> Tensor:
    """softmax(q·kᵀ/√d + bias)·v (Vaswani et al. 2017, eq. 1).

    q, k, v: [B, H, N, d]; `bias`, added to the scaled logits: broadcastable to [B, H, N, N]; returns [B, H, N, d].
    `fused` is torch's scaled_dot_product_attention, `flash`, `cudnn`, `efficient` and `math` are one of its kernels alone,
    `matmul` is two batched products; `auto` chooses by device and dtype. Raises RuntimeError where a kernel cannot do it.
    """
    if kernel == "auto":
        # The backward of torch's fused CPU kernel is what costs at few tokens (measured: benchmarks/LOG.md).
        few_tokens = q.shape[-2] <= FEW_TOKENS.get(q.dtype, FEW_TOKENS[torch.float32])
        kernel = "matmul" if q.device.type == "cpu" and torch.is_grad_enabled() and few_tokens else "fused"
    if kernel in BACKENDS:
        with sdpa_kernel(BACKENDS[kernel]):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    if kernel == "fused":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return F.dropout(logits.softmax(dim=-1), dropout, training=dropout > 0) @ v


class Attention(nn.Module):
    """Multi-head self-attention over [B, N, D]; prefix tokens (class token, registers) come first.

    A user's attention may derive from it and have another `mix`. `place_in` tells it what positions do within attention.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.kernel: Kernel = "auto"
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.q_norm = nn.LayerNorm(config.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(config.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.proj = nn.Linear(config.width, config.width, bias=config.proj_bias)
        self.proj_dropout = nn.Dropout(config.dropout)
        self.relative: RelativePosition | None = None
        self.rotary: RotaryPosition | None = None
        self.position: PositionInAttention | None = None

    def place_in(
        self,
        *,
        relative: RelativePosition | None = None,
        rotary: RotaryPosition | None = None,
        position: PositionInAttention | None = None,
    ) -> None:
        """Embeddings of position that work within attention: ours, or a user's."""
        self.relative, self.rotary, self.position = relative, rotary, position

    def forward(self, x: Tensor, *, read: slice = ALL) -> Tensor:
        """x: [B, N, D] → [B, M, D]: only the tokens of `read` are queries, and come out."""
        return self.proj_dropout(self.proj(self.attend(x, read)))

    def attend(self, x: Tensor, read: slice) -> Tensor:
        """The values that each token of `read` attends to, before the projection: [B, N, D] → [B, M, D]."""
        q, k, v, bias = self._queries_keys_values_bias(x)
        bias = None if bias is None else bias[:, :, read]
        return rearrange(self.mix(q[:, :, read], k, v, bias), "b h n d -> b n (h d)")

    def mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """What each query takes of the values. q: [B, H, M, d]; k, v: [B, H, N, d]; bias: to be added to the scaled logits,
        broadcastable to [B, H, M, N], or None → [B, H, M, d].
        """
        dropout = self.dropout if self.training else 0.0
        return attention(q, k, v, bias=bias, dropout=dropout, kernel=self.kernel)

    def _queries_keys_values_bias(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """As `attention` takes them: normed, rotated, the bias scaled."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        if self.position is not None:
            q, k = self.position.rotate(q), self.position.rotate(k)
            return q, k, v, self.position.bias(q)
        return q, k, v, None if self.relative is None else self.relative(q) * q.shape[-1] ** -0.5

    def weights(self, x: Tensor) -> Tensor:
        """x: [B, N, D] → softmax(q·kᵀ/√d + bias) of every query, [B, H, N, N], in float32 at least and before dropout."""
        q, k, _, bias = self._queries_keys_values_bias(x)
        dtype = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            logits = (q.to(dtype) * q.shape[-1] ** -0.5) @ k.to(dtype).transpose(-2, -1)
            return (logits if bias is None else logits + bias.to(dtype)).softmax(dim=-1)
