"""What do test images look like once they are shifted, turned, blurred, …? Each way is a name of `config.DISTORTIONS`.

What is random about an image follows from the distortion and the image's index in its split alone. So every arm, seed, batch
size and machine gets the same images, and a stronger distortion is the same draw taken further.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import DISTORTIONS

Indices = NDArray[np.int64]
"""[B]: each image's index in its split."""
PixelHW = tuple[int, int]
NOISE_POOL = 1 << 20
"""Normal numbers, at least, that are drawn once. Every image takes a stretch of them that begins at a place of its own; they
are independent of each other. Drawn anew for every image, they would take longer than a model takes on a GPU."""
BLUR_TRUNCATE = 4.0
"""Standard deviations at which the Gaussian is cut off, as scipy.ndimage does."""


def distorted(
    pixels: Tensor,
    name: str,
    strength: float,
    *,
    indices: Indices,
    normalise: Callable[[Tensor], Tensor],
    patch_hw: PixelHW | None,
) -> Tensor:
    """Images of a data set, uint8 or float32 [B, C, H, W] → normalised float32 [B, C, H, W], distorted.

    JPEG works on levels, all others on normalised images: these have mean 0 and standard deviation 1 over the training set,
    so that a strength is as strong on any set, and 0 is the mean colour. `patch_hw`: (height, width) of the model's patches,
    for the distortions that are of patches. Strength 0 gives the normalised images.
    """
    if strength == 0:
        return normalise(pixels)
    if name == "jpeg":
        return normalise(compressed(pixels, quality=round(100 - strength)))
    images = normalise(pixels)
    if DISTORTIONS[name].of_patches:
        assert patch_hw is not None
        return (_shuffled if name == "shuffle" else _dropped)(images, strength / 100, indices, patch_hw)
    return _OF_IMAGES[name](images, strength, indices)


def _streams(name: str, indices: Indices) -> Iterator[np.random.RandomState]:
    """A stream for each image, to be drawn from before the next: it is one object, as making one takes longer than seeding it.

    RandomState, as its stream never changes between numpy versions (NEP 19).
    """
    stream = np.random.RandomState(0)
    for index in map(int, indices):
        stream.seed([*name.encode(), index & 0xFFFFFFFF, index >> 32])
        yield stream


def _choices(name: str, indices: Indices, number: int, device: torch.device) -> Tensor:
    """One of `number` for each image: int64 [B]."""
    return torch.tensor([stream.randint(number) for stream in _streams(name, indices)], device=device)


def shifted(images: Tensor, strength: float, indices: Indices) -> Tensor:
    """Each moved by so many pixels, circularly, in one of four directions."""
    direction, moved = _choices("shift", indices, 4, images.device), torch.empty_like(images)
    for number, (step, axis) in enumerate(((1, 2), (-1, 2), (1, 3), (-1, 3))):
        chosen = direction == number
        moved[chosen] = torch.roll(images[chosen], step * round(strength), axis)
    return moved


def rotated(images: Tensor, strength: float, indices: Indices) -> Tensor:
    """Each turned by so many degrees about its centre, left or right: bilinear, 0 from outside."""
    direction, turned = _choices("rotate", indices, 2, images.device), torch.empty_like(images)
    for number, sign in enumerate((1, -1)):
        chosen = direction == number
        grid = _rotation(sign * strength, images.shape[-2], images.shape[-1]).to(images.device)
        turned[chosen] = F.grid_sample(images[chosen], grid.expand(int(chosen.sum()), -1, -1, -1), align_corners=False)
    return turned


@lru_cache(maxsize=16)
def _rotation(degrees: float, height: int, width: int) -> Tensor:
    """Where the pixels of an image that is turned counter-clockwise come from: [1, H, W, 2], (x, y) from −1 to 1."""
    angle = math.radians(degrees)
    y = torch.arange(height, dtype=torch.float64).sub_((height - 1) / 2).unsqueeze(1)
    x = torch.arange(width, dtype=torch.float64).sub_((width - 1) / 2)
    from_x, from_y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
    return torch.stack([from_x * 2 / width, from_y * 2 / height], dim=-1).float().unsqueeze(0)


def noisy(images: Tensor, strength: float, indices: Indices) -> Tensor:
    """With normal noise of `strength` % of a standard deviation of the training images."""
    numbers = images[0].numel()
    pool = _noise_pool(max(NOISE_POOL, 4 * numbers), images.device)
    starts = [int(stream.randint(len(pool) - numbers)) for stream in _streams("noise", indices)]
    noise = torch.stack([pool[start : start + numbers] for start in starts]).view_as(images)
    return noise.mul_(strength / 100).add_(images)


@lru_cache(maxsize=2)
def _noise_pool(size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.random.RandomState([*b"noise pool"]).standard_normal(size).astype(np.float32)).to(device)


def blurred(images: Tensor, strength: float, _indices: Indices) -> Tensor:
    """Gaussian blur; beyond the border the image goes on as its mirror image (scipy.ndimage's `reflect`)."""
    radius = int(BLUR_TRUNCATE * strength + 0.5)
    offsets = range(-radius, radius + 1)
    weights = [math.exp(-0.5 * (offset / strength) ** 2) for offset in offsets]
    for axis in (2, 3):
        size, result = images.shape[axis], torch.zeros_like(images)
        for offset, weight in zip(offsets, weights, strict=True):  # one by one: the same bits in any batch
            taps = (torch.arange(size, device=images.device) + offset) % (2 * size)
            taps = torch.minimum(taps, 2 * size - 1 - taps)
            result.add_(images.index_select(axis, taps).mul_(weight / sum(weights)))
        images = result
    return images


def flattened(images: Tensor, strength: float, _indices: Indices) -> Tensor:
    """With `strength` % of the contrast taken away: each channel drawn towards its mean over the image."""
    mean = images.mean(3, keepdim=True).mean(2, keepdim=True)  # by rows, which no batch size sums in another order
    return mean + (images - mean).mul_(1 - strength / 100)


_OF_IMAGES: dict[str, Callable[[Tensor, float, Indices], Tensor]] = {
    "shift": shifted,
    "rotate": rotated,
    "noise": noisy,
    "blur": blurred,
    "contrast": flattened,
}


def compressed(pixels: Tensor, *, quality: int) -> Tensor:
    """uint8 [B, 1 or 3, H, W] → the same, each saved as JPEG by Pillow and read again."""
    assert pixels.dtype == torch.uint8, pixels.dtype
    images = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    read = np.stack([_through_jpeg(image, quality) for image in images])
    return torch.from_numpy(read).to(pixels.device).permute(0, 3, 1, 2).contiguous()


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality)
    file.seek(0)
    return np.asarray(Image.open(file)).reshape(image.shape)


def _shuffled(images: Tensor, share: float, indices: Indices, patch_hw: PixelHW) -> Tensor:
    """The first of each image's patches, in an order of its own, take the next one's place; the last, the first's."""
    patches = _patches(images, patch_hw)
    number = max(2, round(share * patches.shape[1]))
    source = np.tile(np.arange(patches.shape[1]), (len(indices), 1))
    for row, order in enumerate(_orders("shuffle", indices, patches.shape[1])):
        source[row, order[:number]] = np.roll(order[:number], 1)
    taken = torch.from_numpy(source).to(images.device).view(*source.shape, 1)
    return _from_patches(patches.gather(1, taken.expand_as(patches)), images.shape, patch_hw)


def _dropped(images: Tensor, share: float, indices: Indices, patch_hw: PixelHW) -> Tensor:
    """The first of each image's patches, in an order of its own, become 0, the mean colour; one stays at least."""
    patches = _patches(images, patch_hw)
    number = min(max(1, round(share * patches.shape[1])), patches.shape[1] - 1)
    is_dropped = np.zeros(patches.shape[:2], dtype=bool)
    for row, order in enumerate(_orders("drop", indices, patches.shape[1])):
        is_dropped[row, order[:number]] = True
    mask = torch.from_numpy(is_dropped).to(images.device).unsqueeze(-1)
    return _from_patches(patches.masked_fill(mask, 0.0), images.shape, patch_hw)


def _orders(name: str, indices: Indices, patches: int) -> list[NDArray[np.int64]]:
    return [stream.permutation(patches) for stream in _streams(name, indices)]


def _patches(images: Tensor, patch_hw: PixelHW) -> Tensor:
    h, w = patch_hw
    return rearrange(images, "b c (rows h) (columns w) -> b (rows columns) (c h w)", h=h, w=w)


def _from_patches(patches: Tensor, shape: Sequence[int], patch_hw: PixelHW) -> Tensor:
    """The inverse of `_patches`, for images of this shape."""
    (_, c, height, _), (h, w) = shape, patch_hw
    pattern = "b (rows columns) (c h w) -> b c (rows h) (columns w)"
    return rearrange(patches, pattern, c=c, rows=height // h, h=h, w=w)
