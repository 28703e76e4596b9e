"""Which models does a profile measure on a kind of device, at which batch sizes and settings?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitbench.config import ModelConfig, TimmConfig, canonical_json
from vitbench.variants import model as named_model

COMPILES = ("off", "on")
CUDA_COMPILES = (*COMPILES, "graphs")


@dataclass(frozen=True)
class ProfiledModel:
    """A named variant or model of timm at a batch size; `fields` are those that are not as its name says."""

    variant: str
    batch_size: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> ModelConfig:
        return named_model(self.variant, **{**self.fields, **changes})

    @property
    def slug(self) -> str:
        """`S-16-224px`; with options of timm also 8 hex digits of their SHA-256: `timm-resnet18-1a2b3c4d-32px`."""
        config = self.config()
        name = re.sub(r"[/:]+", "-", self.variant)
        if isinstance(config, TimmConfig) and config.options:
            name += f"-{hashlib.sha256(canonical_json(config.options).encode()).hexdigest()[:8]}"
        return f"{name}-{'x'.join(map(str, dict.fromkeys(config.image_hw)))}px"


@dataclass(frozen=True)
class Workload:
    """`models` are measured for throughput, counts and traces, `contests` against peers."""

    models: tuple[ProfiledModel, ...]
    contests: tuple[ProfiledModel, ...]
    compiles: tuple[str, ...] = ("off",)
    """For throughput, at the precision that `auto` stands for."""
    contest_precisions: tuple[str, ...] = ("fp32", "bf16")
    contest_compiles: tuple[str, ...] = COMPILES
    batch_size: int = 16
    """Of variants that the user names without one."""


_SMALL = {"num_classes": 10}
CPU = Workload(
    models=(
        ProfiledModel("Small32/4", 128, _SMALL),
        ProfiledModel("Ti/16", 32),
        ProfiledModel("S/16", 16),
        ProfiledModel("B/16", 8),
        ProfiledModel("R26+S/32", 16),
    ),
    contests=(ProfiledModel("Small32/4", 128, _SMALL), ProfiledModel("S/16", 16)),
)
CUDA = Workload(
    models=(
        ProfiledModel("Small32/4", 1024, _SMALL),
        ProfiledModel("Ti/16", 512),
        ProfiledModel("S/16", 256),
        ProfiledModel("B/16", 256),
        ProfiledModel("L/16", 64),
        ProfiledModel("H/14", 32),
        ProfiledModel("R50+B/16", 128),
    ),
    contests=(ProfiledModel("S/16", 256), ProfiledModel("B/16", 128)),
    compiles=CUDA_COMPILES,
    contest_compiles=CUDA_COMPILES,
    batch_size=128,
)
