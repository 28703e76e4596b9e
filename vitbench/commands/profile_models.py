"""Which models `vitbench profile` measures on a kind of device, by name and fields, ours and timm's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitbench.commands.arguments import COMPILES
from vitbench.config import ModelConfig, TimmConfig, canonical_json
from vitbench.variants import model as named_model


@dataclass(frozen=True)
class Model:
    """A named variant or model of timm, its batch, and what else of it is not as named."""

    variant: str
    batch_size: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> ModelConfig:
        return named_model(self.variant, **{**self.fields, **changes})

    @property
    def slug(self) -> str:
        """`S-16-224px`; of a model of timm with options, 8 hex digits of their SHA-256 too: `timm-resnet18-1a2b3c4d-32px`."""
        config = self.config()
        name = re.sub(r"[/:]+", "-", self.variant)
        if isinstance(config, TimmConfig) and config.options:
            name += f"-{hashlib.sha256(canonical_json(config.options).encode()).hexdigest()[:8]}"
        return f"{name}-{'x'.join(map(str, dict.fromkeys(config.image_hw)))}px"


@dataclass(frozen=True)
class Workload:
    """What is measured on a kind of device: `models` for throughput, counts and traces; `contests` against peers."""

    models: tuple[Model, ...]
    contests: tuple[Model, ...]
    compiles: tuple[str, ...] = ("off",)
    """For throughput, at the precision that `auto` stands for."""
    contest_precisions: tuple[str, ...] = ("fp32", "bf16")
    contest_compiles: tuple[str, ...] = COMPILES
    batch_size: int = 16
    """Of variants that the user names."""


_SMALL = {"num_classes": 10}
CPU = Workload(
    models=(
        Model("Small32/4", 128, _SMALL),
        Model("Ti/16", 32),
        Model("S/16", 16),
        Model("B/16", 8),
        Model("R26+S/32", 16),
    ),
    contests=(Model("Small32/4", 128, _SMALL), Model("S/16", 16)),
)
CUDA = Workload(
    models=(
        Model("Small32/4", 1024, _SMALL),
        Model("Ti/16", 512),
        Model("S/16", 256),
        Model("B/16", 256),
        Model("L/16", 64),
        Model("H/14", 32),
        Model("R50+B/16", 128),
    ),
    contests=(Model("S/16", 256), Model("B/16", 128)),
    compiles=COMPILES,
    batch_size=128,
)
