"""Which weights a model takes over from another, and which it starts anew: the head is new, places are resampled."""

from __future__ import annotations

from typing import Any

from vitbench.config import ViTConfig
from vitbench.models import build_model
from vitbench.models.resize import resize_tables
from vitbench.models.vit import ViT

FREE = ("image_size", "num_classes", "head", "dropout", "attention_dropout", "drop_path")
"""What may differ from the model that the weights come from; everything else decides what its weights mean."""


def inherited_config(source: ViTConfig, wanted: dict[str, Any]) -> ViTConfig:
    """The configuration of a model that starts from `source`'s weights: its fields, a linear head, what is `wanted`.

    Raises ValueError for a wanted field that the weights cannot follow.
    """
    free = {name: value for name, value in wanted.items() if name in FREE}
    config = source.replace(**{"head": "linear", **free})
    asked = config.replace(**wanted)
    for name in type(source).model_fields:
        if getattr(asked, name) != getattr(config, name):
            raise ValueError(
                f"{name} {getattr(asked, name)!r} is not that of the initial weights, {getattr(config, name)!r}; "
                f"leave it out (free are {', '.join(FREE)})"
            )
    return config


def inherit(source: ViT, config: ViTConfig, *, seed: int, antialias: bool = True) -> ViT:
    """A model of `config`, in training mode, with the weights of `source` but a head initialised from the seed.

    Position tables are resampled where the grid of patches is another (`vitbench.models.resize`, which says what
    `antialias` means). Raises ValueError where `config` differs in more than `FREE`.
    """
    inherited_config(source.config, {name: getattr(config, name) for name in type(config).model_fields})
    model = build_model(config, seed=seed)
    tables = resize_tables(source.state_dict(), old_grid=source.config.grid, new_grid=config.grid, antialias=antialias)
    weights = {name: value for name, value in tables.items() if not name.startswith("head.")}
    new = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    model.load_state_dict(weights | new)
    return model
