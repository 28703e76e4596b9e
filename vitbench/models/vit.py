"""The Vision Transformer: stem, position, encoder, pooling and head put together from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.attention import Attention
from vitbench.models.blocks import Block
from vitbench.models.heads import AttentionPool, Head, TokenPool
from vitbench.models.parts import ALL, PartError, PositionInAttention, build_part, pre_logits
from vitbench.models.positions import ADDITIVE, AddedPosition, RelativePosition, RotaryPosition
from vitbench.models.stems import STEMS


class ViT(nn.Module):
    """A pre-norm Vision Transformer (Dosovitskiy et al. 2021): images [B, C, H, W] → logits [B, num_classes]."""

    def __init__(self, config: ViTConfig, *, seed: int = 0) -> None:
        """The seed is for users' parts: what is ours is initialised by `initialize`."""
        super().__init__()
        self.config = config

        def part(role: str, name: str, built_in: Callable[[], nn.Module | None]) -> Any:
            return build_part(role, config, place=name, seed=seed, built_in=built_in)

        norm = partial(nn.LayerNorm, config.width, eps=config.norm_eps)
        self.stem = part("stem", "stem", lambda: STEMS[config.stem](config))
        self.class_token = nn.Parameter(torch.empty(1, config.width)) if config.has_class_token else None
        self.registers = nn.Parameter(torch.empty(config.num_registers, config.width)) if config.num_registers else None
        self.position = part(
            "position", "position", lambda: AddedPosition(config) if config.position in ADDITIVE else None
        )
        self.adds_position = self.position is not None and getattr(self.position, "vitbench_has_forward", True)
        self.dropout = nn.Dropout(config.dropout)
        self.pre_norm = part("norm", "pre_norm", norm) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(_blocks(config, seed=seed))
        _place_in_attention(self.blocks, config, self.position)
        self.norm = nn.Identity() if config.final_norm == "none" else part("norm", "norm", norm)
        attends = config.pool == "map"
        self.pool = part("pool", "pool", lambda: AttentionPool(config, seed=seed) if attends else TokenPool(config))
        self.head = part("head", "head", lambda: Head(config))
        computes_all = config.pool != "cls" or config.user_parts.keys() & {"attention", "mlp", "norm"}
        self.read = ALL if computes_all else slice(0, 1)
        """The tokens that pooling uses; the last block computes only these, unless a user's part wants to see all."""

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
        x = x.to(next(self.blocks.parameters(), next(self.parameters(), x)).dtype)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            if self.adds_position:
                x = self.position(x, i).to(x.dtype)
            if i == 0:
                x = self.pre_norm(self.dropout(x)).to(x.dtype)
            x = block(x, read=read if i == last else ALL)
        return self.norm(x) if self.config.final_norm == "tokens" else x

    def features(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → pooled pre-logits [B, D]."""
        pooled = self.pool(self.tokens(images, read=self.read))
        pooled = self.norm(pooled) if self.config.final_norm == "pooled" else pooled
        return pre_logits(self.head, pooled)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def _blocks(config: ViTConfig, *, seed: int) -> list[Block]:
    rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]  # rises linearly with depth
    return [Block(config, drop_path=rate, place=f"blocks.{i}", seed=seed) for i, rate in enumerate(rates)]


def _place_in_attention(blocks: nn.ModuleList, config: ViTConfig, position: nn.Module | None) -> None:
    """Tells the blocks' attention of positions that work within it. Raises PartError where a user's cannot be told."""
    num_tables = 1 if config.position_site == "every_layer_shared" else config.depth
    relative = [RelativePosition(config) for _ in range(num_tables)] if config.position == "relative" else [None]
    rotary = RotaryPosition(config) if config.position == "rope_2d" else None
    for i, block in enumerate(blocks):
        users = PositionInAttention(position, i) if "position" in config.user_parts and position is not None else None
        within = users if users else None
        if relative[0] is None and rotary is None and within is None:
            return
        if not isinstance(block.attention, Attention):
            raise PartError(
                f"attention {config.attention} cannot be told of position {config.position}, which works within attention; "
                "derive it from vitbench.models.Attention, or take a position that is added to tokens"
            )
        block.attention.place_in(relative=relative[i % len(relative)], rotary=rotary, position=within)
