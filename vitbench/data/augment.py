"""How is a training batch changed before the model sees it? All images at once, on the device.

In the order of timm's `transforms_imagenet_train`: crop, flip, automatic augmentation or colour jitter, normalise, erase; then
mixup and cutmix. Every draw comes from (seed, step) on the CPU, so that arms are paired and CPU and CUDA agree; each
augmentation that came after flips has a stream of its own, so that it changes no draw of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from timm.data.mixup import Mixup
from torch import Tensor
from torch.nn import functional

from vitbench.config import CHANNELS_WITH_COLOUR, DataConfig, PaddingMode
from vitbench.data.auto_augment import policy
from vitbench.data.color_jitter import color_jitter, draw_jitter
from vitbench.data.erasing import erase
from vitbench.data.pillow_pixels import luma
from vitbench.data.resized_crop import draw_boxes, resized_crop
from vitbench.data.seeding import random_state, seed_words
from vitbench.generators import seeded


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images / 255 − mean) / std: uint8 [B, C, H, W] → float32. `mean` and `std` are per channel, in [0, 1].

    float32 images are in the unit of `mean` and `std` already.
    """
    if not len(mean) == len(std) == images.shape[1]:
        raise ValueError(
            f"mean {tuple(mean)} and std {tuple(std)} must have one value per channel; images have {images.shape[1]}"
        )
    if images.is_floating_point():  # mean first: it may be many times std, and a product would then lose digits
        middle, deviation = _middle_and_deviation(tuple(mean), tuple(std), images.device)
        return (images - middle).div_(deviation)
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.device)
    return (images * scale).add_(shift)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """uint8 [B, C, H, W] → [B, `channels`, H, W]: grey repeated for colours, colours made grey as Pillow's mode L does.

    Raises ValueError for other numbers than 1 and 3.
    """
    stored = images.shape[1]
    if stored == channels:
        return images
    if {stored, channels} != {1, 3}:
        raise ValueError(f"channels {channels} cannot be had from images of {stored}; give grey or RGB images")
    return images.expand(-1, 3, -1, -1) if channels == 3 else luma(images)


@lru_cache(maxsize=16)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """One multiplication and one addition per pixel; a channel that never varies (std 0) becomes 0, not infinite."""
    deviation = torch.tensor([s or 1.0 for s in std], dtype=torch.float64)
    scale = 1 / (255 * deviation)
    shift = -torch.tensor(mean, dtype=torch.float64) / deviation
    scale, shift = (rearrange(v, "c -> c 1 1").float().to(device) for v in (scale, shift))
    return scale, shift


@lru_cache(maxsize=16)
def _middle_and_deviation(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    middle, deviation = (
        torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, [s or 1.0 for s in std])
    )
    return middle, deviation


class Augment:
    """Changes images as a `DataConfig` says, normalises and mixes them; one for each run."""

    def __init__(
        self, config: DataConfig, num_classes: int, label_smoothing: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.config = config
        self.mean, self.std = tuple(mean), tuple(std)
        self.auto_augment = (
            None
            if config.auto_augment is None
            else policy(config.auto_augment, mean=self.mean, interpolation=config.crop_interpolation)
        )
        self.mixup: Mixup | None = None
        if config.mixup or config.cutmix:
            self.mixup = Mixup(
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
                label_smoothing=label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, images: Tensor, labels: Tensor, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """uint8 [B, C, H, W] and int64 [B] → float32 [B, C, H, W], normalised, and targets.

        Targets are the class indices [B]; with mixup or cutmix they are probabilities [B, K], label smoothing
        included (for indices the loss applies it). Configurations mix even batches alone, and change the colours of grey and
        RGB images of 8 bits alone.
        """
        images = self.with_colours_changed(self.cropped_and_flipped(images, seed, step), seed, step)
        return self.finished(normalise(images, self.mean, self.std), labels, seed, step)

    def cropped_and_flipped(self, images: Tensor, seed: int, step: int) -> Tensor:
        config, batch = self.config, len(images)
        height, width = images.shape[-2:]
        (top, left), mirrored = windows_and_mirrors(
            config.crop_padding, config.flip, seed=seed, step=step, num_images=batch
        )
        if config.crop_padding:
            images = crop(images, config.crop_padding, top, left, config.padding_mode)
        if config.crop_scale is not None:
            crop_draws = random_state("resized crop", seed, step)
            boxes = draw_boxes(crop_draws, batch, (height, width), config.crop_scale, config.crop_ratio)
            bicubic = crop_draws.randint(2, size=batch) == 1
            if config.crop_interpolation != "random":
                bicubic[:] = config.crop_interpolation == "bicubic"
            images = resized_crop(images, boxes, bicubic)
        if config.flip:
            images = mirror(images, mirrored)
        return images

    def with_colours_changed(self, images: Tensor, seed: int, step: int) -> Tensor:
        field = self.config.changes_colours
        if not field:
            return images
        # Refused before: by RunConfig, and by DataInfo.augmentation_objection.
        assert images.dtype == torch.uint8 and images.shape[1] in CHANNELS_WITH_COLOUR, (field, images.shape)
        if self.auto_augment is not None:
            images = self.auto_augment(images, seed, step)
        if self.config.color_jitter:
            draws = random_state("color jitter", seed, step)
            images = color_jitter(images, *draw_jitter(draws, len(images), self.config.color_jitter))
        return images

    def finished(self, floats: Tensor, labels: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Erases and mixes what is normalised already."""
        config = self.config
        if config.random_erasing:
            draws, noise = random_state("erasing", seed, step), random_state("erasing noise", seed, step)
            floats = erase(floats, config.random_erasing, config.erasing_mode, draws, noise)
        if self.mixup is None:
            return floats, labels
        assert len(floats) % 2 == 0, len(floats)  # refused by RunConfig
        with seeded(0, numpy_seed=seed_words("mixup", seed, step)):  # timm draws from numpy's global generator
            mixed, targets = self.mixup(floats, labels)
        return mixed, targets


def windows_and_mirrors(
    crop_padding: int, flip: bool, *, seed: int, step: int, num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """(top and left [2, B] of each image's window in its padded self, whether [B] it is mirrored: 0 or 1), of one batch."""
    draws = random_state("augment", seed, step)
    nothing = np.zeros((2, num_images), dtype=np.int64)
    windows = draws.randint(2 * crop_padding + 1, size=(2, num_images)) if crop_padding else nothing
    return windows, draws.randint(2, size=num_images) if flip else nothing[0]


def crop(images: Tensor, padding: int, top: np.ndarray, left: np.ndarray, mode: PaddingMode = "zeros") -> Tensor:
    """[B, C, H, W] → the same, each padded by `mode` (zeros or reflect) and cropped back to size at (top [B], left [B])."""
    batch, _, height, width = images.shape
    if mode == "reflect":  # of all types of number, which torch's own cannot
        rows, columns = (torch.from_numpy(np.pad(np.arange(n), padding, mode="reflect")) for n in (height, width))
        padded = images[:, :, rows.to(images.device)][..., columns.to(images.device)]
    else:
        padded = functional.pad(images, [padding] * 4)
    if images.device.type == "cpu":
        # The indexing below, four times as fast in numpy, which copies whole rows.
        view = np.lib.stride_tricks.sliding_window_view(padded.numpy(), (height, width), axis=(2, 3))
        return torch.from_numpy(np.ascontiguousarray(view[np.arange(batch), :, top, left]))
    return crop_by_index(padded, height, width, torch.from_numpy(top), torch.from_numpy(left))


def crop_by_index(padded: Tensor, height: int, width: int, top: Tensor, left: Tensor) -> Tensor:
    """Windows of padded images [B, C, H + 2 p, W + 2 p] in one gather, as an accelerator likes it."""
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [B, C, 2 p + 1, 2 p + 1, H, W]
    rows = torch.arange(len(padded), device=padded.device)
    return windows[rows, :, top.to(padded.device), left.to(padded.device)]


def mirror(images: Tensor, mirrored: np.ndarray) -> Tensor:
    """[B, C, H, W] → the same, left and right exchanged where `mirrored` [B] is 1."""
    # Selecting among both is four times as fast on a CPU as torch.where over pixels.
    rows = np.arange(len(images)) + len(images) * mirrored
    return torch.cat([images, images.flip(-1)]).index_select(0, torch.from_numpy(rows).to(images.device))
