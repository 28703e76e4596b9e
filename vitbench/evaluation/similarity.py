"""How similar are vectors, and how similarly do two layers see the same images?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST = 4
"""Images of a minibatch: the unbiased estimator needs more than three."""


def cosine_similarity(vectors: Tensor) -> Tensor:
    """Of every vector with every other: [N, D] → float64 [N, N]; 0 for a vector of zeros."""
    unit = F.normalize(vectors.double(), dim=-1)
    return unit @ unit.T


def hsic(gram_x: Tensor, gram_y: Tensor) -> Tensor:
    """The unbiased estimator of the Hilbert–Schmidt independence criterion (Song et al. 2012, eq. 5).

    gram_x: [..., B, B], gram_y: [..., B, B], of the same B images → [...], in float64.
    """
    count = gram_x.shape[-1]
    if count < FEWEST:
        raise ValueError(
            f"a minibatch of {count} images is too small for the unbiased estimator; give {FEWEST} or more"
        )
    # Without their diagonals.
    x, y = (k - torch.diag_embed(k.diagonal(dim1=-2, dim2=-1)) for k in (gram_x.double(), gram_y.double()))
    total = (x * y).sum(dim=(-2, -1))
    total = total + x.sum(dim=(-2, -1)) * y.sum(dim=(-2, -1)) / ((count - 1) * (count - 2))
    total = total - 2 / (count - 2) * (x.sum(dim=-2) * y.sum(dim=-2)).sum(dim=-1)
    return total / (count * (count - 3))


def gram(output: Tensor) -> Tensor:
    """Inner products between images: [B, …] → float64 [B, B]. Centred over the batch first, which changes no result."""
    flat = output.flatten(start_dim=1).double()
    flat = flat - flat.mean(dim=0)
    return flat @ flat.T


def minibatch_cka(grams: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Linear centred kernel alignment between all layers of two models, batch by batch (Nguyen et al. 2021, eq. 2–4).

    grams: of each batch, `gram` of the layers of either model, [L, B, B], for the same B images, 4 or more, in the same
    order → float64 [our layers, their layers], 1 for equal up to rotation and scale. HSIC is estimated without bias on each
    batch and averaged, so that the result does not depend on the batch size; an estimate may lie outside [0, 1]. A layer
    that is the same for all images has no alignment: NaN. Raises ValueError where there is no batch.
    """
    estimates = [(hsic(x[:, None], y[None]), hsic(x, x), hsic(y, y)) for x, y in grams]
    if not estimates:
        raise ValueError("no minibatch was added; give one or more")
    between, *within = (reduce(torch.add, over_batches) for over_batches in zip(*estimates, strict=True))
    ours, theirs = (sums.clamp(min=0).sqrt() for sums in within)
    scale = ours[:, None] * theirs[None]
    return torch.where(scale > 0, between / scale, torch.nan)
