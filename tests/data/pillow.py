"""Images for checks against Pillow, and batches as Pillow's images and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

SHAPES = ((3, 32, 32), (1, 28, 28), (3, 9, 7), (3, 20, 33))
"""Channels, height, width."""
IMAGES = 24


def images_of_all_kinds(shape: tuple[int, int, int]) -> torch.Tensor:
    """uint8 [B, C, H, W]: noise, smooth images, one level alone, few levels, one stray pixel."""
    channels, height, width = shape
    draws = np.random.RandomState(0)
    images = draws.randint(256, size=(IMAGES, *shape)).astype(np.uint8)
    for image in images[: IMAGES // 2]:
        coarse = Image.fromarray(draws.randint(256, size=(3, 3, 3)).astype(np.uint8))
        image[:] = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)[:channels]
    images[0] = 7
    images[1] = draws.randint(100, 104, size=shape)
    images[2] = 200
    images[2, :, 0, 0] = 100
    return torch.from_numpy(images)


def by_pillow(images: torch.Tensor, change: Callable[..., Image.Image], *arguments: Sequence[object]) -> torch.Tensor:
    """Each image as a Pillow image through `change`, with its own value of each argument."""
    changed = [np.asarray(change(as_image(image), *values)) for image, *values in zip(images, *arguments, strict=True)]
    return torch.from_numpy(np.stack([a[None] if a.ndim == 2 else a.transpose(2, 0, 1) for a in changed]))


def as_image(image: torch.Tensor) -> Image.Image:
    """uint8 [C, H, W] as mode L or RGB."""
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())
