"""How a model knows where its patches are: tables added to tokens, biases on attention, rotations of q and k."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from vitbench.config import ViTConfig, as_pair


class Learned1D(nn.Module):
    """One learned vector per patch in raster order, and one for the class token (Dosovitskiy et al. 2021, eq. 1).

    Registers have no place and get zeros, as does a class token that is not to be embedded.
    """

    is_fixed = False

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens
        embedded = config.has_class_token and config.embed_class_token
        self.class_token = nn.Parameter(torch.empty(1, config.width)) if embedded else None
        self.table = nn.Parameter(torch.empty(config.num_patches, config.width))

    def forward(self) -> Tensor:
        """What is added to the tokens: [prefix + patches, D]."""
        if self.class_token is None:
            return F.pad(self.table, (0, 0, self.num_prefix_tokens, 0))
        return torch.cat([F.pad(self.class_token, (0, 0, 0, self.num_prefix_tokens - 1)), self.table])


class Learned2D(nn.Module):
    """A table of rows and one of columns, D/2 wide each, concatenated (Dosovitskiy et al. 2021, appendix D.4).

    Prefix tokens have no row and no column and get zeros.
    """

    is_fixed = False

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        rows, columns = config.grid
        self.num_prefix_tokens = config.num_prefix_tokens
        self.rows = nn.Parameter(torch.empty(rows, config.width // 2))
        self.columns = nn.Parameter(torch.empty(columns, config.width // 2))

    def forward(self) -> Tensor:
        """What is added to the tokens: [prefix + patches, D]."""
        x = repeat(self.columns, "w d -> (h w) d", h=len(self.rows))
        y = repeat(self.rows, "h d -> (h w) d", w=len(self.columns))
        return F.pad(torch.cat([x, y], dim=-1), (0, 0, self.num_prefix_tokens, 0))


class SinCos2D(nn.Module):
    """Fixed sines and cosines of column and row (Chen et al. 2021, MoCo-v3; as in big_vision). No parameters."""

    is_fixed = True
    table: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens
        self.register_buffer("table", sincos_2d(coordinates(config), width=config.width), persistent=False)

    def forward(self) -> Tensor:
        """What is added to the tokens: [prefix + patches, D]; prefix tokens get zeros."""
        return F.pad(self.table, (0, 0, self.num_prefix_tokens, 0))


def coordinates(config: ViTConfig) -> Tensor:
    """[2, patches], float64, in raster order: column and row of each patch, from 0, or where `position_grid` places them.

    Patch i of n then lies at (i + ½) · m/n − ½ of that grid's m: the half-pixel centres by which tables are resampled. (EVA's
    rotary positions, timm's `ref_feat_shape`, lie at i · m/n, which between two patches is as far.)
    """
    onto = config.grid if config.position_grid is None else as_pair(config.position_grid)
    rows, columns = (
        (torch.arange(n, dtype=torch.float64) + 0.5) * (m / n) - 0.5 for n, m in zip(config.grid, onto, strict=True)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])


def sincos_2d(places: Tensor, *, width: int) -> Tensor:
    """[patches, width] of columns x and rows y [2, patches]: sin x, cos x, sin y, cos y, each over width/4 frequencies from
    1 to 1/10,000.
    """
    quarter = width // 4
    frequencies = 10_000.0 ** -(torch.arange(quarter, dtype=torch.float64) / max(quarter - 1, 1))
    angles = [rearrange(p, "n -> n 1") * frequencies for p in places]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=-1).float()


class RelativePosition(nn.Module):
    """Logits of queries with embeddings of 1-D offsets (Shaw et al. 2018, eq. 5; Dosovitskiy et al. 2021, appendix D.4).

    One vector of D = heads × head_dim per offset −(n−1) … n−1 between patches in raster order. Pairs with a prefix
    token have no offset and get no bias.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.num_prefix_tokens = config.num_prefix_tokens
        self.table = nn.Parameter(torch.empty(2 * config.num_patches - 1, config.width))

    def forward(self, q: Tensor) -> Tensor:
        """q: [B, H, N, d] → unscaled bias [B, H, N, N]."""
        prefix = self.num_prefix_tokens
        queries = q[:, :, prefix:]
        n = queries.shape[2]
        keys = rearrange(self.table, "offsets (h d) -> h d offsets", h=self.num_heads)
        by_offset = queries @ keys.to(queries.dtype)  # column j − i + n − 1 holds query i's logit for key j
        # Dropping the first n − 1 entries of rows padded to 2n shifts row i left by n − 1 − i (Huang et al. 2019).
        flat = rearrange(F.pad(by_offset, (0, 1)), "b h n offsets -> b h (n offsets)")
        flat = flat[..., n - 1 : n - 1 + n * (2 * n - 1)]
        bias = rearrange(flat, "b h (n offsets) -> b h n offsets", n=n)[..., :n]
        return F.pad(bias, (prefix, 0, prefix, 0))


class RotaryPosition(nn.Module):
    """Axial rotary embedding (Su et al. 2021; Heo et al. 2024): half of each head turns by column, half by row.

    Patches only: prefix tokens are left as they are. No parameters.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens
        pairs = config.head_dim // 4
        frequencies = 100.0 ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
        angles = torch.cat([rearrange(p, "n -> n 1") * frequencies for p in coordinates(config)], dim=-1)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, q: Tensor) -> Tensor:
        """q or k: [B, H, N, d] → the same, its patches' pairs of channels rotated by their place."""
        prefix, patches = q[:, :, : self.num_prefix_tokens], q[:, :, self.num_prefix_tokens :]
        even, odd = rearrange(patches, "b h n (pairs two) -> two b h n pairs", two=2)
        cos, sin = self.cos.to(q.dtype), self.sin.to(q.dtype)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos])
        return torch.cat([prefix, rearrange(turned, "two b h n pairs -> b h n (pairs two)")], dim=2)


ADDITIVE: dict[str, type[Learned1D] | type[Learned2D] | type[SinCos2D]] = {
    "learned_1d": Learned1D,
    "learned_2d": Learned2D,
    "sincos_2d": SinCos2D,
}


class AddedPosition(nn.Module):
    """The additive kinds at their sites: to the stem's output, or to the input of every block, own table or shared."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        kind = ADDITIVE[config.position]
        self.every_layer = config.position_site != "stem"
        one_each = config.position_site == "every_layer" and not kind.is_fixed
        self.tables = nn.ModuleList(kind(config) for _ in range(config.depth if one_each else 1))

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        """tokens [B, N, D] on their way into block number `block` → the same with their places added."""
        if block > 0 and not self.every_layer:
            return tokens
        places: Tensor = self.tables[block if len(self.tables) > 1 else 0]()
        return tokens + places.to(tokens.dtype)
