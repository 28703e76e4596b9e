"""The Vision Transformer: stem, position, encoder, pooling and head put together from a configuration."""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.attention import ALL
from vitbench.models.blocks import Block
from vitbench.models.heads import AttentionPool, Head, TokenPool
from vitbench.models.positions import ADDITIVE, AddedPosition, RelativePosition, RotaryPosition
from vitbench.models.stems import STEMS


class ViT(nn.Module):
    """A pre-norm Vision Transformer (Dosovitskiy et al. 2021): images [B, C, H, W] → logits [B, num_classes]."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = STEMS[config.stem](config)
        self.class_token = nn.Parameter(torch.empty(1, config.width)) if config.has_class_token else None
        self.registers = nn.Parameter(torch.empty(config.num_registers, config.width)) if config.num_registers else None
        self.position = AddedPosition(config) if config.position in ADDITIVE else None
        self.dropout = nn.Dropout(config.dropout)
        self.pre_norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(_blocks(config))
        self.norm = nn.Identity() if config.final_norm == "none" else nn.LayerNorm(config.width, eps=config.norm_eps)
        self.pool = AttentionPool(config) if config.pool == "map" else TokenPool(config)
        self.head = Head(config)
        self.read = slice(0, 1) if config.pool == "cls" else ALL
        """The tokens that pooling uses; the last block computes only these."""

    def tokens(self, images: Tensor, *, read: slice = ALL) -> Tensor:
        """images [B, C, H, W] → final tokens, after the last norm where that is before pooling, [B, prefix + patches, D].

        Those of `read` alone, where it is given: the last block computes no others.
        Raises ValueError for images of another size: as many patches on another grid would get the wrong positions.
        """
        image_hw = tuple(images.shape[-2:])
        if image_hw != self.config.image_hw:
            raise ValueError(
                f"images are {image_hw} pixels, but image_size is {self.config.image_hw}; resize them, or the model"
            )
        x = self.stem(images)
        prefix = [repeat(p, "n d -> b n d", b=len(x)) for p in (self.class_token, self.registers) if p is not None]
        x = torch.cat([*(p.to(x.dtype) for p in prefix), x], dim=1) if prefix else x
        # The residual stream has the parameters' precision, whatever that of the branches that are added to it.
        x = x.to(next(self.blocks.parameters()).dtype)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            if self.position is not None:
                x = self.position(x, i)
            if i == 0:
                x = self.pre_norm(self.dropout(x)).to(x.dtype)
            x = block(x, read=read if i == last else ALL)
        return self.norm(x) if self.config.final_norm == "tokens" else x

    def features(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → pooled pre-logits [B, D]."""
        pooled = self.pool(self.tokens(images, read=self.read))
        return self.head.pre_logits(self.norm(pooled) if self.config.final_norm == "pooled" else pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def _blocks(config: ViTConfig) -> list[Block]:
    num_tables = 1 if config.position_site == "every_layer_shared" else config.depth
    relative = [RelativePosition(config) for _ in range(num_tables)] if config.position == "relative" else [None]
    rotary = RotaryPosition(config) if config.position == "rope_2d" else None
    return [
        Block(
            config,
            drop_path=config.drop_path * i / max(config.depth - 1, 1),  # rises linearly with depth
            relative=relative[i % len(relative)],
            rotary=rotary,
        )
        for i in range(config.depth)
    ]
