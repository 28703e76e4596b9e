"""How are brightness, contrast and saturation of a batch varied? As torchvision's `ColorJitter` does it with Pillow."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.data.pillow_pixels import brightness, color, contrast, look_up

_PROPERTIES = 3


def draw_jitter(
    draws: np.random.RandomState, batch: int, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(factors of brightness, contrast and saturation [B, 3], in which order they come [B, 3]).

    Factors are uniform in [max(0, 1 − strength), 1 + strength].
    """
    least, largest = max(0.0, 1 - strength), 1 + strength
    factors = least + (largest - least) * draws.random_sample((batch, _PROPERTIES))
    return factors, draws.random_sample((batch, _PROPERTIES)).argsort(1)


def color_jitter(images: Tensor, factors: NDArray[np.float64], orders: NDArray[np.int64]) -> Tensor:
    """uint8 [B, C, H, W] → the same, changed as drawn."""
    result = images.clone()
    for turn in orders.T:
        for number, change in enumerate((brightness, contrast, color)):
            rows = np.flatnonzero(turn == number)
            if len(rows):
                chosen = torch.from_numpy(rows).to(images.device)
                part = result[chosen]
                changed = change(part, factors[rows, number])
                result[chosen] = changed if change is color else look_up(part, changed)
    return result
