"""Which rectangles of a batch are erased, and with what? As timm's `RandomErasing` (Zhong et al. 2020) does it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vitbench.config import ErasingMode
from vitbench.data.part import WHOLE, Part

AREA = (0.02, 1 / 3)
"""Least and largest share of the image."""
ASPECT = (0.3, 1 / 0.3)
"""Least and largest height : width."""
TRIES = 10


def erase(
    images: Tensor,
    probability: float,
    mode: ErasingMode,
    draws: np.random.RandomState,
    noise: np.random.RandomState,
    part: Part = WHOLE,
) -> Tensor:
    """Normalised float32 [B, C, H, W] → the same; with `probability`, a rectangle of each image is filled.

    `mode`: `pixel` fills with standard normal noise, `rand` with one such colour, `const` with 0, the mean. The first of ten
    rectangles that fits is taken; where none does, nothing is erased.
    """
    _, channels, height, width = images.shape
    batch = part.whole(len(images))
    index = {place: i for i, place in enumerate(part.of(np.arange(batch)).tolist())}
    wanted = draws.random_sample(batch) <= probability
    share, log_aspect, down, right = np.moveaxis(draws.random_sample((batch, TRIES, 4)), -1, 0)
    area = (AREA[0] + (AREA[1] - AREA[0]) * share) * (height * width)
    least, largest = math.log(ASPECT[0]), math.log(ASPECT[1])
    aspect = np.exp(least + (largest - least) * log_aspect)
    heights, widths = np.rint(np.sqrt(area * aspect)).astype(int), np.rint(np.sqrt(area / aspect)).astype(int)
    fits = (heights < height) & (widths < width)
    first = fits.argmax(1)
    places, values = [], []
    pixels = np.arange(channels * height * width).reshape(channels, height, width)
    for i in np.flatnonzero(wanted & fits.any(1)):
        h, w = heights[i, first[i]], widths[i, first[i]]
        filling = _filling(mode, channels, h * w, noise)  # of images that others have too: one stream for the batch
        if (row := index.get(int(i))) is None:
            continue
        top, left = int(down[i, first[i]] * (height - h + 1)), int(right[i, first[i]] * (width - w + 1))
        places.append((pixels[:, top : top + h, left : left + w] + row * pixels.size).reshape(-1))
        values.append(filling)
    if not places:
        return images
    filled = torch.from_numpy(np.concatenate(values).astype(np.float32)).to(images.device)
    where = torch.from_numpy(np.concatenate(places)).to(images.device)
    return images.reshape(-1).index_copy(0, where, filled).view(images.shape)


def _filling(mode: ErasingMode, channels: int, area: int, noise: np.random.RandomState) -> np.ndarray:
    if mode == "const":
        return np.zeros(channels * area)
    if mode == "rand":
        return noise.standard_normal(channels).repeat(area)
    return noise.standard_normal(channels * area)
