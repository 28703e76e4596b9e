"""How is one training image changed, from as it is stored? In the loader's worker processes, by timm's own transforms.

What `Augment` does to batches of decoded images, this does to images that are too large to be decoded at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train

from vitbench.config import DataConfig
from vitbench.config.data import PaddingMode
from vitbench.data.augment import windows_and_mirrors
from vitbench.data.auto_augment import mend
from vitbench.data.decode import StoredImage, as_array, as_picture, by_channel, covering
from vitbench.data.seeding import draws

_BY_IMAGE = (
    *("crop_scale", "crop_ratio", "crop_interpolation", "crop_padding", "padding_mode"),
    *("flip", "auto_augment", "color_jitter"),
)
"""Fields of `DataConfig` that `ImageTransform` sees to."""


def left_for_batches(config: DataConfig) -> DataConfig:
    """What is still to be done on the device once `ImageTransform` has changed the images: erasing and mixing."""
    return DataConfig(**{name: value for name, value in config if name not in _BY_IMAGE})


@dataclass(frozen=True)
class ImageTransform:
    """Crops, flips and colours images one by one. An image's draws depend on seed, step and its place in the batch alone."""

    config: DataConfig
    size: tuple[int, int]
    """(height, width) that images are brought to."""
    mean: tuple[float, ...]
    """Per channel, in [0, 1]: what `auto_augment` fills corners with."""
    seed: int
    first_step: int
    """The step of batch 0."""
    batch_size: int

    def __call__(self, image: StoredImage, number: int, place: int) -> np.ndarray:
        """An image of any size → [C, H, W] of `size`; `number` of its batch, `place` in that, both from 0."""
        step = self.first_step + number
        image = as_picture(image)
        if isinstance(image, Image.Image):
            return as_array(self._with_colours_changed(self._cropped_and_flipped(image, step, place), step, place))
        return by_channel(image, lambda channel: self._cropped_and_flipped(channel, step, place))

    def _cropped_and_flipped(self, image: Image.Image, step: int, place: int) -> Image.Image:
        config = self.config
        windows, mirrored = _windows_and_mirrors(
            config.crop_padding, config.flip, seed=self.seed, step=step, num_images=self.batch_size
        )
        if config.crop_scale is None:
            image = covering(image, self.size, self.size)
            image = _window(image, config.crop_padding, config.padding_mode, *windows[:, place].tolist())
        else:
            with draws("crop", self.seed, step, place):
                image = self._crop_and_color[0](image)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored[place] else image

    def _with_colours_changed(self, image: Image.Image, step: int, place: int) -> Image.Image:
        if not self.config.changes_colours:
            return image
        with draws("auto_augment", self.seed, step, place):
            return self._crop_and_color[1](image)

    @cached_property
    def _crop_and_color(self) -> tuple[Callable[[Image.Image], Image.Image], Callable[[Image.Image], Image.Image]]:
        config = self.config
        crop, color, _ = transforms_imagenet_train(
            self.size,
            scale=config.crop_scale,
            ratio=config.crop_ratio,
            interpolation=config.crop_interpolation,
            hflip=0.0,
            auto_augment=config.auto_augment,
            color_jitter=config.color_jitter or None,
            mean=self.mean,
            separate=True,
        )
        for change in color.transforms:
            mend(change)
        return crop, color


_windows_and_mirrors = lru_cache(maxsize=4)(windows_and_mirrors)
"""Images of a batch ask for it one after the other."""


def _window(image: Image.Image, padding: int, mode: PaddingMode, top: int, left: int) -> Image.Image:
    """The image padded and cropped back to size."""
    if not padding:
        return image
    pixels = np.asarray(image)
    around = [(padding, padding), (padding, padding), *[(0, 0)] * (pixels.ndim - 2)]
    padded = np.pad(pixels, around, mode="reflect") if mode == "reflect" else np.pad(pixels, around)
    return Image.fromarray(padded[top : top + image.height, left : left + image.width])
