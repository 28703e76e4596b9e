"""Which images does a run train, validate and test on, and how do they reach its model on a device?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import RunConfig
from vitbench.data import Augment, ImageData, Images, StreamedImages, epoch_order, fingerprint, load, normalise, split
from vitbench.data.image_transform import ImageTransform, left_for_batches
from vitbench.data.loading import stored_train
from vitbench.device import Device
from vitbench.evaluation import Evaluation, evaluate

EVALUATION_BATCH = 256

Batches = Iterator[tuple[Tensor, Tensor]]
"""Images [B, C, H, W] and their labels."""


@dataclass(frozen=True)
class RunData:
    """A data set on its way to a device, with the indices of the train split that are trained and validated on."""

    config: RunConfig
    device: Device
    images: ImageData
    evaluated: ImageData
    """The same, as evaluation sees them."""
    stored: StreamedImages | None
    """The train split as it is stored, where the loader's workers change images one by one."""
    train_indices: NDArray[np.int64]
    validation_indices: NDArray[np.int64]

    @classmethod
    def open(cls, config: RunConfig, dataset: str, data_root: Path | None, device: Device) -> RunData:
        """`dataset` as the user named it. Raises ValueError where it cannot be read, or the model was not made for it."""
        files = fingerprint(dataset, root=data_root)
        images = _load_once(dataset, data_root, config.model.image_hw, 1.0, files)
        check_fit(config, images)
        evaluated = _load_once(dataset, data_root, config.model.image_hw, config.data.eval_crop, files)
        train_indices, validation_indices = split(
            images.train.labels,
            validation_fraction=config.data.validation_fraction,
            train_images=config.data.train_images,
            seed=config.seed,
        )
        stored = stored_train(images, config.data, dataset, root=data_root)
        return cls(config, device, images, evaluated, stored, train_indices, validation_indices)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_indices) // self.config.train.batch_size

    @property
    def num_steps(self) -> int:
        return self.config.train.num_steps(self.steps_per_epoch)

    @property
    def num_epochs(self) -> int:
        """The last may be a part of one."""
        return math.ceil(self.num_steps / self.steps_per_epoch)

    def batches(self, epoch: int, first: int, last: int) -> Batches:
        """The epoch's training batches `first` to `last`, as they are in the data set."""
        order, batch_size = self._order(epoch, first, last), self.config.train.batch_size
        return self.images.train.batches(order, batch_size, self.device.torch_device)

    def _order(self, epoch: int, first: int, last: int) -> NDArray[np.int64]:
        return epoch_order(
            self.train_indices,
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            repeats=self.config.data.repeated_augmentation,
            first_batch=first,
            last_batch=last,
        )

    def augmented_batches(self, epoch: int, first: int, last: int) -> Batches:
        """The same, as the model is trained on them."""
        config, images = self.config, self.images
        first_step = epoch * self.steps_per_epoch + first
        if self.stored is None:
            batches, left = self.batches(epoch, first, last), config.data
        else:
            batches = self._changed_by_image(self.stored, self._order(epoch, first, last), first_step)
            left = left_for_batches(config.data)
        augment = Augment(
            left,
            num_classes=config.model.num_classes,
            label_smoothing=config.train.label_smoothing,
            mean=images.mean,
            std=images.std,
        )
        for step, (pixels, labels) in enumerate(batches, start=first_step):
            yield augment(pixels, labels, seed=config.seed, step=step)

    def _changed_by_image(self, stored: StreamedImages, order: NDArray[np.int64], first_step: int) -> Batches:
        """uint8 [B, C, H, W] and labels [B] of the images in `order`, each cropped and coloured by a worker process."""
        config, batch_size = self.config, self.config.train.batch_size
        transform = ImageTransform(
            config.data,
            size=self.images.size,
            mean=self.images.mean,
            seed=config.seed,
            first_step=first_step,
            batch_size=batch_size,
        )
        return stored.batches(order, batch_size, self.device.torch_device, change=transform)

    def normalised(self, pixels: Tensor) -> Tensor:
        return normalise(pixels, self.images.mean, self.images.std)

    def evaluated_batch(self, images: int) -> Tensor:
        """The first test images, normalised: [`images`, C, H, W], or fewer where there are no more."""
        test = self.evaluated.test
        indices = np.arange(min(images, len(test.labels)))
        pixels, _ = next(iter(test.batches(indices, len(indices), self.device.torch_device)))
        return self.normalised(pixels)

    def evaluate(
        self, model: torch.nn.Module, images: Images | StreamedImages, indices: NDArray[np.int64], *, precision: str
    ) -> Evaluation:
        """`model` on these images of the train or test split."""
        batches = images.batches(indices, EVALUATION_BATCH, self.device.torch_device)
        return evaluate(
            model,
            ((self.normalised(pixels), labels) for pixels, labels in batches),
            autocast=partial(self.device.autocast, precision),
            synchronize=self.device.synchronize,
        )


@lru_cache(maxsize=4)
def _load_once(
    dataset: str, root: Path | None, image_size: tuple[int, int], eval_crop: float, _files: str
) -> ImageData:
    """The data set, kept open for the next run of this process, unless its files change."""
    return load(dataset, root=root, image_size=image_size, eval_crop=eval_crop)


def check_fit(config: RunConfig, images: ImageData) -> None:
    """Raises ValueError where the model was not made for these images and labels, or these are not those of the plan."""
    model, info, planned = config.model, images.info, config.data.dataset
    if "@" in planned and "@" in info.dataset and planned != info.dataset:
        raise ValueError(
            f"dataset {planned!r} is {info.dataset!r} by now: its files changed, or its function gives other images here; "
            "plan again once it stays the same"
        )
    if model.in_channels != info.in_channels:
        raise ValueError(
            f"in_channels {model.in_channels} does not fit {info.dataset}, whose images have {info.in_channels}; "
            f"use in_channels={info.in_channels}"
        )
    if model.num_classes != info.num_classes:
        raise ValueError(
            f"num_classes {model.num_classes} does not fit {info.dataset}, whose labels are 0 to {info.num_classes - 1}; "
            f"use num_classes={info.num_classes}"
        )
    for objection in (info.augmentation_objection(config.data), info.distortion_objection(config.evaluate)):
        if objection:
            raise ValueError(objection)
