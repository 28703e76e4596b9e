"""How far does each attention head look, and which patches does a token get its information from?

Maps are [B, H, T, T]: rows are queries and add up to 1, prefix tokens (class token, registers) come before the patches.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grid_distances(grid: tuple[int, int], patch_hw: tuple[int, int]) -> Tensor:
    """Between the centres of all patches of a (rows, columns) grid, in pixels: float64 [N, N], raster order."""
    places = torch.cartesian_prod(
        *(torch.arange(n, dtype=torch.float64) * p for n, p in zip(grid, patch_hw, strict=True))
    )
    # Not by products, whose rounding would part a patch from itself.
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")


def attention_distance(maps: Tensor, distances: Tensor) -> Tensor:
    """Mean attention-weighted distance from a patch to the patches that it attends to (Dosovitskiy et al. 2021, Figure 7).

    maps: [B, H, T, T], distances: [N, N] → float64 [B, H], a mean over the N patches as queries. Attention to prefix
    tokens, which have no place, is left out and the rest of a row scaled to add up to 1; rows without a rest are left out.
    """
    weights = patch_attention(maps, len(distances))
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (weights * distances.to(maps.device)).sum(dim=-1).nanmean(dim=-1)


def prefix_share(maps: Tensor, num_patches: int) -> Tensor:
    """The share of the patches' attention that goes to prefix tokens: [B, H, T, T] → float64 [B, H]."""
    return 1 - patch_attention(maps, num_patches).sum(dim=-1).mean(dim=-1)


def patch_attention(maps: Tensor, num_patches: int) -> Tensor:
    """From patches to patches alone, in float64: [..., T, T] → [..., N, N]. Rows no longer add up to 1."""
    return maps[..., -num_patches:, -num_patches:].double()


def roll_out(maps: Tensor, below: Tensor | None = None) -> Tensor:
    """One layer more of attention rollout (Abnar and Zuidema 2020): (A + I)/2, rows scaled to 1, times what lies below.

    maps: [B, H, T, T], averaged over heads; `below`: the rollout of all layers beneath, None at the first. Returns
    float64 [B, T, T]: row i says how much of each input token is in token i after this layer.
    """
    mean = maps.double().mean(dim=1)
    mixed = (mean + torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)) / 2
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)
    return mixed if below is None else mixed @ below
