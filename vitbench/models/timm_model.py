"""Any model of timm behind the interface of ours: logits, and features before them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vitbench.config import TimmConfig
from vitbench.models import timm_models


class TimmModel(nn.Module):
    """images [B, C, H, W] → logits [B, num_classes]; `.features(images)` pooled pre-logits [B, D]."""

    def __init__(self, config: TimmConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.timm = timm_models.create(config, seed=seed)

    def features(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → pooled pre-logits [B, D], as timm's `forward_head(…, pre_logits=True)` has them."""
        inner: Any = self.timm
        return inner.forward_head(inner.forward_features(images), pre_logits=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.timm(images)
