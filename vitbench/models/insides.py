"""Which of a model's parameters can be looked at as they are: patch filters and position tables, and why not where not."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from vitbench.models.parts import is_part
from vitbench.models.positions import ADDITIVE
from vitbench.models.stems import PatchNormStem, PatchStem
from vitbench.models.vit import ViT

WITHOUT_TABLE = {
    "none": "there is no position embedding",
    "relative": "positions are biases on attention by offset, not vectors of places",
    "rope_2d": "positions are rotations of queries and keys, not vectors of places",
}
"""Why a kind of position embedding has no table, by `ViTConfig.position`."""


class NoSuchPartError(LookupError):
    """What was asked for has no meaning for this model; its text is the reason."""


@torch.no_grad()
def patch_filters(model: ViT) -> Tensor:
    """The stem's filters over a patch of pixels, [D, C, height, width], as they meet normalised pixels.

    With `patch_norm`, the scale of the norm before them is multiplied in. Raises NoSuchPartError for other stems.
    """
    stem = model.stem
    if is_part(stem):
        raise NoSuchPartError(f"stem {model.config.stem!r} is a user's, whose filters are not known")
    if not isinstance(stem, PatchStem):
        raise NoSuchPartError(f"stem {model.config.stem!r} has convolutions, and no filter of a whole patch of pixels")
    weight = stem.proj.weight
    if isinstance(stem, PatchNormStem):
        weight = weight * stem.norm_patch.weight
    height, width = stem.patch_hw
    return rearrange(weight, "d (c p1 p2) -> d c p1 p2", p1=height, p2=width).clone()


@torch.no_grad()
def position_tables(model: ViT) -> list[Tensor]:
    """What is added to patches for their place, [patches, D] in raster order: one table, or one for every block.

    Raises NoSuchPartError where no vector stands for a place.
    """
    config = model.config
    if "position" in config.user_parts:
        raise NoSuchPartError(f"position {config.position!r} is a user's, whose tables are not known")
    if config.position not in ADDITIVE:
        raise NoSuchPartError(f"position {config.position!r}: {WITHOUT_TABLE[config.position]}")
    assert model.position is not None
    return [table()[config.num_prefix_tokens :].clone() for table in model.position.tables]
