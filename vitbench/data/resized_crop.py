"""Which part of an image does a random resized crop take, and how does it get back to size?

Torchvision's draw (`RandomResizedCrop`, as in Szegedy et al. 2015) and Pillow's resampling, for a whole batch at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TRIES = 10
_BITS = 22
"""Of the fraction of Pillow's weights (`PRECISION_BITS`, Resample.c)."""
_SUPPORT = {True: 2.0, False: 1.0}


@dataclass(frozen=True)
class Boxes:
    """Where crops lie, in pixels: int64 [B] each."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]


def draw_boxes(
    draws: np.random.RandomState,
    batch: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Boxes:
    """Area uniform in `scale`, log-uniform width : height in `ratio`; the first of ten tries that fits into the image of
    `size` (height, width), else the largest box at the centre with an allowed ratio.
    """
    height, width = size
    share, log_ratio, down, right = np.moveaxis(draws.random_sample((batch, TRIES, 4)), -1, 0)
    area = (scale[0] + (scale[1] - scale[0]) * share) * (height * width)
    least, largest = np.log(ratio)
    aspect = np.exp(least + (largest - least) * log_ratio)
    widths, heights = np.rint(np.sqrt(area * aspect)).astype(np.int64), np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    rows, first = np.arange(batch), fits.argmax(1)
    any_fits, w, h = fits.any(1), widths[rows, first], heights[rows, first]
    fallback_height, fallback_width = _largest_at_centre(height, width, ratio)
    w, h = np.where(any_fits, w, fallback_width), np.where(any_fits, h, fallback_height)
    top = np.where(any_fits, down[rows, first] * (height - h + 1), (height - h) // 2).astype(np.int64)
    left = np.where(any_fits, right[rows, first] * (width - w + 1), (width - w) // 2).astype(np.int64)
    return Boxes(top, left, h, w)


def _largest_at_centre(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


def resized_crop(images: Tensor, boxes: Boxes, bicubic: NDArray[np.bool_]) -> Tensor:
    """[B, C, H, W] → the same: the boxes, each resized to H × W, `bicubic` [B] or bilinearly.

    uint8 images get Pillow's levels exactly: first along rows, then along columns, each rounded to a level. float32 images
    stay unrounded.
    """
    height, width = images.shape[-2:]
    exact = images.dtype == torch.uint8
    across = torch.from_numpy(_weights(boxes.left, boxes.width, width, bicubic, exact)).to(images.device)
    down = torch.from_numpy(_weights(boxes.top, boxes.height, height, bicubic, exact)).to(images.device)
    # Whole numbers below 2⁵³: sums of doubles are exact in any order, on any device.
    rows = torch.bmm(images.flatten(1, 2).double(), across.transpose(1, 2)).view(images.shape)
    if exact:
        rows = _to_level(rows)
    result = torch.matmul(down.unsqueeze(1), rows)
    return (_to_level(result) if exact else result).to(images.dtype)


def _to_level(sums: Tensor) -> Tensor:
    return sums.add_(1 << (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255)


def _weights(
    start: NDArray[np.int64], length: NDArray[np.int64], size: int, bicubic: NDArray[np.bool_], whole: bool
) -> NDArray[np.float64]:
    """[B, `size` of the result, `size` of the source]: Pillow's `precompute_coeffs`, within the box alone.

    Boxes are never longer than the result, so that nothing is averaged. `whole`: as multiples of 2⁻²², as integers.
    """
    support = np.where(bicubic, _SUPPORT[True], _SUPPORT[False])[:, None]
    centre = (np.arange(size) + 0.5) * (length / size)[:, None]  # [B, size], in the box
    low = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + support + 0.5).astype(np.int64), length[:, None])
    taps = low[..., None] + np.arange(5)  # [B, size, 5]
    distance = np.abs(taps - centre[..., None] + 0.5)
    near = ((-0.5 + 2.0) * distance - (-0.5 + 3.0)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    cubic = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    weights = np.where(bicubic[:, None, None], cubic, np.maximum(1 - distance, 0)) * (taps < high[..., None])
    weights /= weights.sum(-1, keepdims=True)
    if whole:
        weights = np.trunc(weights * (1 << _BITS) + np.copysign(0.5, weights))
    columns = np.minimum(start[:, None, None] + taps, size - 1)
    dense = np.zeros((len(start), size, size))
    rows = np.arange(len(start))[:, None, None], np.arange(size)[None, :, None]
    np.add.at(dense, (*rows, columns), weights)
    return dense
