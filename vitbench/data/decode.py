"""How one stored image becomes an array of the size and channels that were asked for.

Both the decoded cache and the streamed path go through here, which is why their pixels are equal.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

GREY_MODES = ("1", "L")
_TOO_DEEP = ("I", "F")  # PIL would clip 16-bit and float pixels to 255 in silence


def num_channels(image: Image.Image) -> int:
    """1 for grey images, 3 for all others."""
    return 1 if image.mode in GREY_MODES else 3


def fit(image: Image.Image, size: tuple[int, int], in_channels: int, filename: str) -> np.ndarray:
    """uint8 [C, H, W]: shorter side resized (bicubic, antialiased), then the centre cropped; untouched if equal.

    `size` is (height, width). Raises ValueError, naming the file, for what cannot be shown in 8 bits or would lose
    its colours.
    """
    if image.mode.split(";")[0] in _TOO_DEEP:
        raise ValueError(f"image {filename!r} has mode {image.mode}, more than 8 bits a channel; convert it to 8 bits")
    if in_channels == 1 and num_channels(image) != 1:
        raise ValueError(
            f"image {filename!r} is coloured ({image.mode}), the first one of its set is grey; make all of one kind"
        )
    mode = "L" if in_channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    height, width = size
    if (image.height, image.width) != size:
        image = _cover(image, height, width)
        top, left = round((image.height - height) / 2), round((image.width - width) / 2)
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, in_channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """The smallest resize that covers height × width; the longer side is cut to whole pixels as torchvision does."""
    if height * image.width >= width * image.height:
        new = (max(width, int(height * image.width / image.height)), height)
    else:
        new = (width, max(height, int(width * image.height / image.width)))
    return image if new == image.size else image.resize(new, Image.Resampling.BICUBIC)


def fit_array(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`fit` for grey images that are already decoded: uint8 [N, 1, h, w] → uint8 [N, 1, H, W]."""
    if images.shape[2:] == size:
        return images
    return np.stack([fit(Image.fromarray(image[0]), size, 1, f"#{i}") for i, image in enumerate(images)])
