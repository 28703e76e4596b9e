"""What does a model that learned its positions on one grid of patches know about another?

Learned tables are resampled bicubically to the new grid; everything else is either independent of it or follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitbench.config import ViTConfig
from vitbench.models.attention import Attention
from vitbench.models.parts import parts_of
from vitbench.models.vit import ViT

Grid = tuple[int, int]
"""(rows, columns) of patches."""


def resize(model: ViT, image_size: int | tuple[int, int], *, antialias: bool) -> ViT:
    """A new model for images of `image_size` (pixels; int or (height, width)) with the weights of `model`.

    Its position tables are those of `resize_tables`; fixed positions (sincos_2d, rope_2d) are computed anew, one patch a
    step unless the configuration has a `position_grid`. Dtype, device, training mode and `requires_grad` are kept, module by
    module. `model` stays as it is and shares no memory with the new one; its gradients, hooks and native operators
    (`kernels.install`) are not taken along. Raises the ValueError of `ViTConfig` where `patch_size` does not divide
    `image_size`, and a ValueError for a user's part that does not say that it takes any image size.
    """
    config = model.config.replace(image_size=image_size)
    check_parts_take(model, config)
    state = resize_tables(model.state_dict(), old_grid=model.config.grid, new_grid=config.grid, antialias=antialias)
    # Layers draw values that are overwritten; the caller's random stream must not move for them.
    with torch.random.fork_rng(devices=[]):
        resized = ViT(config)
    for name, values in resized.state_dict().items():
        if values.shape != state[name].shape:
            raise ValueError(
                f"image_size {config.image_size} changes {name}, although its class has any_image_size = True; leave that out"
            )
    resized.load_state_dict({name: values.clone() for name, values in state.items()}, assign=True)
    for (name, buffer), old_buffer in zip(list(resized.named_buffers()), model.buffers(), strict=True):
        owner, _, leaf = name.rpartition(".")
        setattr(resized.get_submodule(owner), leaf, buffer.to(old_buffer))
    for parameter, old_parameter in zip(resized.parameters(), model.parameters(), strict=True):
        parameter.requires_grad_(old_parameter.requires_grad)
    for module, old_module in zip(resized.modules(), model.modules(), strict=True):
        module.training = old_module.training
        if isinstance(module, Attention) and isinstance(old_module, Attention):
            module.kernel = old_module.kernel
    return resized


def check_parts_take(model: ViT, config: ViTConfig) -> None:
    """Raises ValueError where images of another size come to a user's part that has no `any_image_size = True`."""
    if config.image_hw == model.config.image_hw:
        return
    for name, part in parts_of(model).items():
        if not getattr(part, "any_image_size", False):
            raise ValueError(
                f"image_size {config.image_size} is not {model.config.image_size}, with which {name}, a user's "
                f"{type(part).__name__}, was trained; leave it out, or, if its weights mean the same at any size, give the "
                "class any_image_size = True"
            )


def resize_tables(state: Mapping[str, Tensor], *, old_grid: Grid, new_grid: Grid, antialias: bool) -> dict[str, Tensor]:
    """The state dict of a ViT, under its own names, with every position table resampled from one grid to another.

    Grids are (rows, columns) of patches. All else is passed on as it is: other weights, the class token's place, which
    is on no grid, and the tables themselves where the grids are equal. Bicubic with half-pixel centres, from size to
    size (`align_corners=False`, no scale factor), as in timm's `resample_abs_pos_embed`: a cubic convolution with
    a = −0.75, or with `antialias` one with a = −0.5 that widens as the grid shrinks. Computed in the table's dtype,
    but in float32 for float16 and bfloat16.

    - learned_1d, [rows · columns, D]: as an image of D channels. A grid with as many patches is resampled like any
      other (otherwise: huggingface/pytorch-image-models#2737).
    - learned_2d, [rows, D/2] and [columns, D/2]: each along its axis, which is resampling the whole table, since
      bicubic interpolation is separable and its weights sum to 1.
    - relative, [2 · rows · columns − 1, D]: in the plane of displacements, see `_resample_relative`.

    Raises ValueError for a table that is not of `old_grid`.
    """
    resized = dict(state)
    for name, table in state.items():
        kind = next((kind for pattern, kind in _KINDS.items() if re.fullmatch(pattern, name)), None)
        if kind is None:
            continue
        num_entries, resample = kind
        if len(table) != (expected := num_entries(old_grid)):
            raise ValueError(
                f"old_grid {old_grid} means {expected} entries of {name}, which has {len(table)}; "
                "give the (rows, columns) of patches that it was trained with"
            )
        if old_grid != new_grid:
            precise = table.to(torch.promote_types(table.dtype, torch.float32))
            resized[name] = resample(precise, old_grid, new_grid, antialias).to(table.dtype).contiguous()
    return resized


def _resample_1d(table: Tensor, old: Grid, new: Grid, antialias: bool) -> Tensor:
    plane = rearrange(table, "(h w) d -> h w d", h=old[0])
    return rearrange(_bicubic(plane, new, antialias), "h w d -> (h w) d")


def _resample_axis(table: Tensor, _: Grid, new: Grid, antialias: bool, *, axis: int) -> Tensor:
    return _bicubic(rearrange(table, "n d -> 1 n d"), (1, new[axis]), antialias)[0]


def _resample_relative(table: Tensor, old: Grid, new: Grid, antialias: bool) -> Tensor:
    """Offsets −(n−1) … n−1 in raster order → the same on the new grid, by way of displacements (rows, columns).

    On H × W patches offset o is the displacements (y, x) with o = y·W + x: up to two, for instance one to the right
    or W − 1 to the left in the next row. Neighbouring offsets are neighbouring places only within a row, and an offset
    is another displacement on another grid, so offsets themselves cannot be interpolated; displacements can. The
    (2H−1) × (2W−1) plane of them is resampled to that of the new grid, as timm does with tables of relative biases
    (`resize_rel_pos_bias_table_simple`): zero stays zero, border stays border.

    Each new offset then gets the mean over its displacements, weighted by the query–key pairs that have them,
    (H−|y|)·(W−|x|): of all 1-D tables, the one nearest to the resampled plane in squared error over all pairs.
    """
    resampled = _bicubic(table[_offsets(old, table.device)], (2 * new[0] - 1, 2 * new[1] - 1), antialias)
    offset = _offsets(new, table.device).flatten()
    rows, columns = (n - torch.arange(1 - n, n, device=table.device).abs() for n in new)
    pairs = rearrange(rows, "y -> y 1") * rearrange(columns, "x -> 1 x")
    pairs = pairs.flatten().to(table.dtype)
    num_offsets = 2 * new[0] * new[1] - 1
    pairs_of_offset = pairs.new_zeros(num_offsets).index_add(0, offset, pairs)
    share = rearrange(pairs / pairs_of_offset[offset], "displacements -> displacements 1")
    parts = rearrange(resampled, "y x d -> (y x) d") * share
    return parts.new_zeros(num_offsets, table.shape[1]).index_add(0, offset, parts)


def _offsets(grid: Grid, device: torch.device) -> Tensor:
    """Where a table of 1-D offsets has each displacement of the grid: [2H − 1, 2W − 1]."""
    rows, columns = grid
    y, x = (torch.arange(1 - n, n, device=device) for n in grid)
    return rearrange(y, "y -> y 1") * columns + x + rows * columns - 1


def _bicubic(plane: Tensor, size: Grid, antialias: bool) -> Tensor:
    """[h, w, D] → [*size, D]."""
    # Where the new width is 1, torch's antialiasing CPU kernel reads wrong samples (2.14.1); a height of 1 is no trouble.
    if size[1] == 1 < size[0]:
        return _bicubic(plane.transpose(0, 1), (1, size[0]), antialias).transpose(0, 1)
    image = rearrange(plane, "h w d -> 1 d h w")
    image = F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=antialias)
    return rearrange(image, "1 d h w -> h w d")


_KINDS: dict[str, tuple[Callable[[Grid], int], Callable[[Tensor, Grid, Grid, bool], Tensor]]] = {
    r"position\.tables\.\d+\.table": (lambda grid: grid[0] * grid[1], _resample_1d),
    r"position\.tables\.\d+\.rows": (lambda grid: grid[0], partial(_resample_axis, axis=0)),
    r"position\.tables\.\d+\.columns": (lambda grid: grid[1], partial(_resample_axis, axis=1)),
    r"blocks\.\d+\.attention\.relative\.table": (lambda grid: 2 * grid[0] * grid[1] - 1, _resample_relative),
}
"""By name in the state dict: how many entries a table has on a grid, and how it is resampled from one to another."""
