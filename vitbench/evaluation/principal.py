"""Which few principal components make up many filters?"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-9
"""Components with less than this share of the largest singular value are rounding errors."""


def principal_components(filters: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(unit components, their shares of the variance) of filters [D, C, h, w] about their mean, the largest first.

    Returns float64 [K, C, h, w] and [K]; K is `count`, or fewer where the filters have fewer. The sign, which is free, is
    such that the value furthest from 0 is positive.
    """
    flat = filters.flatten(start_dim=1).double()
    _, sizes, components = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
    kept = min(count, int((sizes > SMALLEST * sizes[0]).sum()))
    furthest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    components = components * furthest.sign()
    return components[:kept].unflatten(1, filters.shape[1:]), (sizes**2 / (sizes**2).sum())[:kept]
