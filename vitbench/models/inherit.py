"""Which weights a model takes over from another, and which it starts anew: the head is new, places are resampled."""

from __future__ import annotations

from typing import Any

from vitbench.config import FREE, OF_THE_HEAD, ViTConfig
from vitbench.models import build_model
from vitbench.models.resize import resize_tables
from vitbench.models.vit import ViT


def inherited_config(source: ViTConfig, wanted: dict[str, Any], *, keep_head: bool = False) -> ViTConfig:
    """The configuration of a model that starts from `source`'s weights: its fields, what is `wanted`, and a linear head,
    unless its own is kept.

    Raises ValueError for a wanted field that the weights cannot follow.
    """
    names = tuple(name for name in FREE if name not in OF_THE_HEAD) if keep_head else FREE
    free = {name: value for name, value in wanted.items() if name in names}
    config = source.replace(**free) if keep_head else source.replace(**{"head": "linear", **free})
    asked = config.replace(**wanted)
    for name in type(source).model_fields:
        if getattr(asked, name) != getattr(config, name):
            kept = keep_head and name in OF_THE_HEAD
            remedy = "leave --keep-head out" if kept else f"leave it out (free are {', '.join(names)})"
            raise ValueError(
                f"{name} {getattr(asked, name)!r} is not that of the initial weights, {getattr(config, name)!r}; {remedy}"
            )
    return config


def inherit(source: ViT, config: ViTConfig, *, seed: int, keep_head: bool = False, antialias: bool = True) -> ViT:
    """A model of `config`, in training mode, with the weights of `source` but a head initialised from the seed.

    With `keep_head`, the head is the source's too. Position tables are resampled where the grid of patches is another
    (`vitbench.models.resize`, which says what `antialias` means). Raises ValueError where `config` differs in more than
    `FREE`, or in `OF_THE_HEAD` where that is kept.
    """
    fields = {name: getattr(config, name) for name in type(config).model_fields}
    inherited_config(source.config, fields, keep_head=keep_head)
    model = build_model(config, seed=seed)
    tables = resize_tables(source.state_dict(), old_grid=source.config.grid, new_grid=config.grid, antialias=antialias)
    if keep_head:
        model.load_state_dict(tables)
        return model
    weights = {name: value for name, value in tables.items() if not name.startswith("head.")}
    new = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    model.load_state_dict(weights | new)
    return model
