"""How does Pillow rotate, shear and translate images, for a whole batch at once? Each image has its own matrix.

Pillow's `Image.transform`: coordinates and cubic (a = −1) in double precision, truncated to levels; the border's pixels go on
within half a pixel, and beyond lies the fill.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrices = NDArray[np.float64]
"""[B, 6]: the pixel at (x, y) of the result shows what lay at (a x + b y + c, d x + e y + f)."""
_PIXELS_AT_ONCE = 1 << 19
"""Bounds the memory of one part of a batch."""


def affine(images: Tensor, matrices: Matrices, *, bicubic: bool, fill: Sequence[int]) -> Tensor:
    """uint8 [B, C, H, W] → the same, transformed; `fill` has one level per channel."""
    at_once = max(1, _PIXELS_AT_ONCE // (images.shape[-1] * images.shape[-2]))
    background = torch.tensor(fill, dtype=torch.uint8, device=images.device)
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    # Shears and translations along one axis leave the pixels' centres on the other: one row or column of taps suffices.
    along_x = (matrices[:, 3:] == (0, 1, 0)).all(1)
    along_y = (matrices[:, :3] == (1, 0, 0)).all(1) & ~along_x
    for rows, axes in ((along_x, "x"), (along_y, "y"), (~(along_x | along_y), "xy")):
        for part in np.split(np.flatnonzero(rows), range(at_once, int(rows.sum()), at_once)):
            if len(part):
                chosen = torch.from_numpy(part).to(images.device)
                result[chosen] = _transformed(images[chosen], matrices[part], axes, bicubic, background)
    return result


def _transformed(images: Tensor, matrices: Matrices, axes: str, bicubic: bool, background: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    a, b, c, d, e, f = torch.from_numpy(matrices).to(images.device).view(batch, 6, 1, 1).unbind(1)
    x = torch.arange(width, dtype=torch.float64, device=images.device).add_(0.5)
    y = torch.arange(height, dtype=torch.float64, device=images.device).add_(0.5).unsqueeze(1)
    at_x, at_y = a * x + b * y + c, d * x + e * y + f  # [B, H, W]
    inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
    first_x, columns = _taps(at_x, width, bicubic and "x" in axes, "x" in axes)
    first_y, rows = _taps(at_y, height, bicubic and "y" in axes, "y" in axes)
    starts = torch.arange(batch, device=images.device).mul_(height * width).view(-1, 1, 1)
    pixels = images.permute(0, 2, 3, 1).reshape(batch * height * width, channels).double()
    lines = [_between([pixels[starts + row * width + column] for column in columns], first_x) for row in rows]
    values = _between(lines, first_y).clamp_(0, 255).to(torch.uint8)  # [B, H, W, C]
    return torch.where(inside.unsqueeze(-1), values, background).permute(0, 3, 1, 2)


def _taps(at: Tensor, size: int, bicubic: bool, interpolated: bool) -> tuple[Tensor, list[Tensor]]:
    """(how far between the middle taps, the indices of the taps): 4, 2, or the pixel itself."""
    shifted = at - 0.5
    lower = shifted.floor()
    indices = lower.long()
    offsets = range(-1, 3) if bicubic else range(2) if interpolated else range(1)
    return (shifted - lower).unsqueeze(-1), [(indices + offset).clamp_(0, size - 1) for offset in offsets]


def _between(taps: list[Tensor], d: Tensor) -> Tensor:
    """Pillow's polynomials, in its order of operations."""
    if len(taps) == 1:
        return taps[0]
    if len(taps) == 2:
        start, end = taps
        return (end - start).mul_(d).add_(start)
    v1, v2, v3, v4 = taps
    cubic = (v2 - v1).sub_(v3).add_(v4)
    square = (v1 - v2).mul_(2).add_(v3).sub_(v4)
    return cubic.mul_(d).add_(square).mul_(d).add_(v3 - v1).mul_(d).add_(v2)


def rotation(degrees: float, width: int, height: int) -> tuple[float, ...]:
    """The matrix of `Image.rotate`: counter-clockwise about the centre, cosine and sine to 15 digits."""
    angle = -np.deg2rad(degrees % 360.0)
    cosine, sine = round(float(np.cos(angle)), 15), round(float(np.sin(angle)), 15)
    x, y = width / 2, height / 2
    return cosine, sine, cosine * -x + sine * -y + 0.0 + x, -sine, cosine, -sine * -x + cosine * -y + 0.0 + y
