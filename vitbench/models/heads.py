"""How tokens become one vector, and that vector logits."""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.attention import attention
from vitbench.models.blocks import MLP


class TokenPool(nn.Module):
    """`cls`, the first token; `gap` and `mean_all`, the mean of all tokens but the registers.

    Under `gap` there is no class token, so the mean is that of the patches.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.pool = config.pool
        self.class_tokens = int(config.has_class_token)
        self.num_registers = config.num_registers

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] → [B, D]."""
        if self.pool == "cls":
            return tokens[:, 0]
        if self.num_registers:
            before, after = self.class_tokens, self.class_tokens + self.num_registers
            tokens = torch.cat([tokens[:, :before], tokens[:, after:]], dim=1)
        return reduce(tokens, "b n d -> b d", "mean")


class AttentionPool(nn.Module):
    """A learned query attends to the patches, then a residual MLP (Zhai et al. 2022; `map` in big_vision and SigLIP).

    Nothing drops out in it, as in big_vision and timm.
    """

    def __init__(self, config: ViTConfig, *, seed: int = 0) -> None:
        """The seed is for a user's activation."""
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.num_prefix_tokens = config.num_prefix_tokens
        self.query = nn.Parameter(torch.empty(1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = MLP(config, dropout=0.0, place="pool.mlp", seed=seed)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] → [B, D]."""
        patches = tokens[:, self.num_prefix_tokens :]
        q = repeat(self.q(self.query), "n (h d) -> b h n d", b=tokens.shape[0], h=self.num_heads)
        k, v = rearrange(self.kv(patches), "b n (two h d) -> two b h n d", two=2, h=self.num_heads)
        x = self.proj(rearrange(attention(q, k, v), "b h 1 d -> b (h d)"))
        return x + self.mlp(self.norm(x))


class Head(nn.Module):
    """Linear, or with one tanh hidden layer of the model's width (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.width, config.width) if config.head == "mlp" else None
        self.classifier = nn.Linear(config.width, config.num_classes) if config.num_classes else nn.Identity()

    def pre_logits(self, pooled: Tensor) -> Tensor:
        """[B, D] → [B, D]."""
        return pooled if self.hidden is None else torch.tanh(self.hidden(pooled))

    def forward(self, pre_logits: Tensor) -> Tensor:
        """[B, D] → [B, num_classes]; [B, D] where there are no classes."""
        return self.classifier(pre_logits)
