"""What the tests of models share: a small configuration, models in float64 with no parameter at a special value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitbench.config import ViTConfig
from vitbench.models import ViT, build_model

SMALL: dict[str, Any] = {
    "image_size": (8, 12),
    "patch_size": 4,
    "width": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "num_classes": 5,
}
"""2 × 3 patches."""

PLACES = [
    ("learned_1d", "stem"),
    ("learned_1d", "every_layer"),
    ("learned_1d", "every_layer_shared"),
    ("learned_2d", "stem"),
    ("learned_2d", "every_layer"),
    ("learned_2d", "every_layer_shared"),
    ("relative", "every_layer"),
    ("relative", "every_layer_shared"),
    ("sincos_2d", "stem"),
    ("sincos_2d", "every_layer"),
    ("rope_2d", "every_layer"),
]
"""Every position embedding at every site where it has a meaning."""


def small_config(**changes: Any) -> ViTConfig:
    return ViTConfig(**{**SMALL, **changes})


def small_model(**changes: Any) -> ViT:
    """In float64 and eval mode; every parameter moved by noise, so that no bias is 0 and no scale is 1."""
    return stirred(build_model(small_config(**changes))).double().eval()


def stirred(model: ViT) -> ViT:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def images_for(config: ViTConfig, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, config.in_channels, *config.image_hw, generator=generator, dtype=torch.float64)


def num_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
