"""Which images does a run train, validate and test on, and how do they reach its model on a device?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import RunConfig
from vitbench.data import Augment, ImageData, Images, StreamedImages, epoch_order, fingerprint, load, normalise, split
from vitbench.data.image_transform import ImageTransform, left_for_batches
from vitbench.data.loading import stored_train
from vitbench.data.part import WHOLE, Part
from vitbench.device import Device
from vitbench.evaluation import Evaluation, evaluate, joined
from vitbench.ranks import ALONE, Ranks

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
    ranks: Ranks = ALONE
    """Which of every batch, and of what is evaluated, this process sees to."""

    @classmethod
    def open(
        cls, config: RunConfig, dataset: str, data_root: Path | None, device: Device, ranks: Ranks = ALONE
    ) -> RunData:
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
        return cls(config, device, images, evaluated, stored, train_indices, validation_indices, ranks)

    @cached_property
    def part(self) -> Part:
        """Of every batch."""
        batch_size = self.config.train.batch_size
        return WHOLE if self.ranks.size == 1 else Part(self.ranks.places(batch_size), batch_size)

    @property
    def images_a_step(self) -> int:
        """That this process sees to."""
        return len(self.part.of(np.arange(self.config.train.batch_size)))

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
        """This process's part of the epoch's training batches `first` to `last`, as they are in the data set."""
        order = self._order(epoch, first, last)
        return self.images.train.batches(order, self.images_a_step, self.device.torch_device)

    def _order(self, epoch: int, first: int, last: int) -> NDArray[np.int64]:
        whole_batches = epoch_order(
            self.train_indices,
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            repeats=self.config.data.repeated_augmentation,
            first_batch=first,
            last_batch=last,
        )
        return self.part.order(whole_batches)

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
            part=self.part,
        )
        for step, (pixels, labels) in enumerate(batches, start=first_step):
            yield augment(pixels, labels, seed=config.seed, step=step)

    def _changed_by_image(self, stored: StreamedImages, order: NDArray[np.int64], first_step: int) -> Batches:
        """uint8 [B, C, H, W] and labels [B] of the images in `order`, each cropped and coloured by a worker process."""
        config = self.config
        transform = ImageTransform(
            config.data,
            size=self.images.size,
            mean=self.images.mean,
            seed=config.seed,
            first_step=first_step,
            batch_size=config.train.batch_size,
            part=self.part,
        )
        return stored.batches(order, self.images_a_step, self.device.torch_device, change=transform)

    def example(self, images: int) -> Tensor:
        """So many normalised images [B, C, H, W], of the shape of those that are trained on.

        The first ones, where they are in memory: what a device keeps of them is then there. Of streamed images, which would
        have to be decoded for it, zeros.
        """
        if isinstance(self.images.train, Images):
            pixels, _ = next(self.batches(0, 0, 1))
            return self.normalised(pixels[:images])
        shape = self.images.train.image_shape
        return torch.zeros(min(images, self.images_a_step), *shape, device=self.device.torch_device)

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
        """`model` on these images of the train or test split. Collective."""

        def evaluate_part(part: NDArray[np.int64]) -> Evaluation:
            batches = images.batches(part, EVALUATION_BATCH, self.device.torch_device)
            return evaluate(
                model,
                ((self.normalised(pixels), labels) for pixels, labels in batches),
                autocast=partial(self.device.autocast, precision),
                synchronize=self.device.synchronize,
            )

        return self.evaluated_in_parts(indices, evaluate_part)

    def evaluated_in_parts(
        self, indices: NDArray[np.int64], evaluate_part: Callable[[NDArray[np.int64]], Evaluation]
    ) -> Evaluation:
        """The evaluation of `indices`, each by one rank. Collective."""
        if self.ranks.size == 1:
            return evaluate_part(indices)
        part = self.ranks.part(indices)
        parts = self.ranks.gather(evaluate_part(part) if len(part) else None)
        return joined([part for part in parts if part is not None])


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
