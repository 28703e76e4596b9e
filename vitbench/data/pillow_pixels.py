"""How does Pillow change the pixels' values, for a whole batch at once? Each image has its own factor.

Images are uint8 [B, C, H, W], grey (C = 1) or RGB (C = 3), on any device. Results are those of Pillow's C code, bit by bit:
arithmetic is by integers, or by single operations of IEEE floats in the same order, so that devices agree too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Factors = NDArray[np.float64]
"""One of each image: [B]."""
_LEVELS = np.arange(256)


def luma(images: Tensor) -> Tensor:
    """Grey as in mode L, uint8 [B, 1, H, W]: ITU-R 601-2 luma in Pillow's fixed-point arithmetic. Grey stays as it is."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.to(torch.int32).unbind(1)
    grey = (red * 19595).add_(green * 38470).add_(blue * 7471).add_(0x8000)
    return (grey >> 16).to(torch.uint8).unsqueeze(1)


def blend(start: Tensor, images: Tensor, factors: Factors) -> Tensor:
    """start + factor · (images − start), cut to 0 … 255 and truncated: `Image.blend`, with which `ImageEnhance` enhances."""
    origin = start.float()
    factor = _per_image(factors, images.device)
    return ((images.float() - origin).mul_(factor).add_(origin)).clamp_(0, 255).to(torch.uint8)


def color(images: Tensor, factors: Factors) -> Tensor:
    """`ImageEnhance.Color`: 0 is grey, 1 the image. A grey image stays as it is."""
    return images if images.shape[1] == 1 else blend(luma(images), images, factors)


def sharpness(images: Tensor, factors: Factors) -> Tensor:
    """`ImageEnhance.Sharpness`: 0 is smooth, 1 the image."""
    return blend(smooth(images), images, factors)


def smooth(images: Tensor) -> Tensor:
    """`ImageFilter.SMOOTH`: 3 × 3 pixels, the middle one five times, over 13, to the nearest; the border stays."""
    if min(images.shape[-2:]) < 3:
        return images
    pixels = images.to(torch.int32)
    rows = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[..., 1:-1, 1:-1]
    result = images.clone()
    result[..., 1:-1, 1:-1] = ((2 * total + 13) // 26).to(torch.uint8)
    return result


def gaussian_blur(images: Tensor, radii: Factors) -> Tensor:
    """`ImageFilter.GaussianBlur`: three box blurs along each axis (Gwosdek et al. 2011), each to the nearest level."""
    box = _box_radii(radii.astype(np.float32))
    across = images
    for axis in (-1, -2):
        for _ in range(_BOXES):
            across = _box_blur(across, box, axis)
    return across


_BOXES = 3


def _box_radii(radii: NDArray[np.float32]) -> NDArray[np.float32]:
    """The box whose repetition has the standard deviation `radii`, in C's single precision."""
    one = np.float32(1)
    variance = radii * radii / np.float32(_BOXES)
    length = np.sqrt(12.0 * variance.astype(np.float64) + 1.0).astype(np.float32)
    whole = np.floor((length.astype(np.float64) - 1.0) / 2.0).astype(np.float32)
    part = (2 * whole + one) * (whole * (whole + one) - 3 * variance)
    radius: NDArray[np.float32] = whole + part / (6 * (variance - (whole + one) * (whole + one)))
    return radius


def _box_blur(images: Tensor, radii: NDArray[np.float32], axis: int) -> Tensor:
    """A mean over 2 r + 1 pixels, the outermost by the fraction of r; beyond the border the last pixel goes on."""
    whole = radii.astype(np.int64)
    inner = ((1 << 24) / (radii * np.float32(2) + np.float32(1))).astype(np.int64)
    outer = ((1 << 24) - (2 * whole + 1) * inner) // 2
    reach = int(whole.max()) + 1
    pixels = images.to(torch.int64)
    padded = torch.cat([pixels.narrow(axis, 0, 1)] * reach + [pixels] + [pixels.narrow(axis, -1, 1)] * reach, dim=axis)
    total = torch.full_like(pixels, 1 << 23)
    for offset in range(-reach, reach + 1):
        weight = np.where(abs(offset) <= whole, inner, np.where(abs(offset) == whole + 1, outer, 0))
        shifted = padded.narrow(axis, reach + offset, images.shape[axis])
        total += shifted * torch.from_numpy(weight).to(images.device).view(-1, 1, 1, 1)
    return (total >> 24).to(torch.uint8)


Tables = Tensor
"""uint8 [B, C or 1, 256]: what each level becomes."""


def look_up(images: Tensor, tables: Tables) -> Tensor:
    """Every pixel by the table of its image and channel."""
    batch, channels, height, width = images.shape
    each = tables.expand(batch, channels, 256).reshape(batch * channels, 256)
    return each.gather(1, images.reshape(batch * channels, -1).long()).view(batch, channels, height, width)


def invert(images: Tensor, _: Factors) -> Tables:
    return _tables(np.broadcast_to(255 - _LEVELS, (len(images), 256)), images.device)


def solarize(images: Tensor, thresholds: Factors) -> Tables:
    """Levels from the threshold on are inverted."""
    return _tables(np.where(thresholds[:, None] > _LEVELS, _LEVELS, 255 - _LEVELS), images.device)


def solarize_add(images: Tensor, added: Factors) -> Tables:
    """Levels below 128 get brighter by so many."""
    return _tables(np.where(_LEVELS < 128, np.minimum(255, _LEVELS + added[:, None]), _LEVELS), images.device)


def posterize(images: Tensor, bits: Factors) -> Tables:
    """So many leading bits are kept; 8 or more keep all, 0 or fewer none."""
    dropped = 8 - np.clip(bits, 0, 8).astype(np.int64)
    return _tables(_LEVELS >> dropped[:, None] << dropped[:, None], images.device)


def brightness(images: Tensor, factors: Factors) -> Tables:
    """`ImageEnhance.Brightness`: 0 is black, 1 the image."""
    return _blended_tables(np.zeros(len(images)), factors, images.device)


def contrast(images: Tensor, factors: Factors) -> Tables:
    """`ImageEnhance.Contrast`: 0 is the mean grey, 1 the image."""
    pixels = images.shape[-1] * images.shape[-2]
    total = luma(images).flatten(1).sum(1, dtype=torch.int64).cpu().numpy()
    return _blended_tables((total / pixels + 0.5).astype(np.int64), factors, images.device)


def auto_contrast(images: Tensor, _: Factors) -> Tables:
    """`ImageOps.autocontrast`: by channel, the darkest level becomes 0 and the brightest 255."""
    flat = images.flatten(2)
    low, high = (level.cpu().numpy().astype(np.float64)[..., None] for level in (flat.amin(2), flat.amax(2)))
    scale = 255.0 / np.where(high > low, high - low, 1)
    stretched = np.clip((_LEVELS * scale + -low * scale).astype(np.int64), 0, 255)
    return _tables(np.where(high > low, stretched, _LEVELS), images.device)


def equalize(images: Tensor, _: Factors) -> Tables:
    """`ImageOps.equalize`: by channel, all levels as frequent as the histogram allows."""
    batch, channels = images.shape[:2]
    counts = _histograms(images)
    levels_used = (counts > 0).sum(-1, keepdims=True)
    last = 255 - (counts[..., ::-1] > 0).argmax(-1)[..., None]
    step = (counts.sum(-1, keepdims=True) - np.take_along_axis(counts, last, -1)) // 255
    before = np.cumsum(counts, -1) - counts
    spread = np.minimum((step // 2 + before) // np.maximum(step, 1), 255)
    tables = np.where((levels_used > 1) & (step > 0), spread, _LEVELS)
    return _tables(tables.reshape(batch, channels, 256), images.device)


def _histograms(images: Tensor) -> NDArray[np.int64]:
    """[B, C, 256]."""
    batch, channels = images.shape[:2]
    rows = torch.arange(batch * channels, device=images.device).mul_(256)[:, None]
    levels = images.reshape(batch * channels, -1).long().add_(rows)
    counts = torch.bincount(levels.flatten(), minlength=batch * channels * 256)
    return counts.view(batch, channels, 256).cpu().numpy()


def _blended_tables(start: NDArray[np.generic], factors: Factors, device: torch.device) -> Tables:
    origin = start.astype(np.float32)[:, None]
    levels = _LEVELS.astype(np.float32)
    return _tables(np.clip(origin + factors.astype(np.float32)[:, None] * (levels - origin), 0, 255), device)


def _tables(values: NDArray[np.generic], device: torch.device) -> Tables:
    """[B, 256] or [B, C, 256] → uint8 [B, 1 or C, 256] on the device."""
    tables = torch.from_numpy(np.ascontiguousarray(values.astype(np.uint8))).to(device)
    return tables if tables.ndim == 3 else tables.unsqueeze(1)


def _per_image(values: Factors, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device).view(-1, 1, 1, 1)


BY_TABLE: dict[str, Callable[[Tensor, Factors], Tables]] = {
    function.__name__: function
    for function in (invert, solarize, solarize_add, posterize, brightness, contrast, auto_contrast, equalize)
}
"""Operations that change each pixel by its level alone, by the names of timm's functions."""
BY_NEIGHBOURS: dict[str, Callable[[Tensor, Factors], Tensor]] = {
    function.__name__: function for function in (color, sharpness, gaussian_blur)
}
"""Operations that look at several values, likewise."""
