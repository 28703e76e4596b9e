"""How are brightness, contrast and saturation of a batch varied? As torchvision's `ColorJitter` does it with Pillow."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitbench.data.pillow_pixels import brightness, color, contrast, look_up

_PROPERTIES = 3


def color_jitter(images: Tensor, strength: float, draws: np.random.RandomState) -> Tensor:
    """uint8 [B, C, H, W] → the same; each image by three factors, in random order.

    Factors are uniform in [max(0, 1 − strength), 1 + strength].
    """
    batch = len(images)
    least, largest = max(0.0, 1 - strength), 1 + strength
    factors = least + (largest - least) * draws.random_sample((batch, _PROPERTIES))
    orders = draws.random_sample((batch, _PROPERTIES)).argsort(1)
    result = images.clone()
    for turn in orders.T:
        for number, change in enumerate((brightness, contrast, color)):
            rows = np.flatnonzero(turn == number)
            if len(rows):
                chosen = torch.from_numpy(rows).to(images.device)
                part, part_factors = result[chosen], factors[rows, number]
                changed = change(part, part_factors)
                result[chosen] = changed if change is color else look_up(part, changed)
    return result
