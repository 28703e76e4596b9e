"""Which images train, which validate, and in which order? The seed alone decides, never the model.

So arms of a study see the same batches, and their differences can be taken seed by seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitbench.data.info import validation_images
from vitbench.data.seeding import random_state

if TYPE_CHECKING:
    pass


def split(
    labels: np.ndarray, *, validation_fraction: float, train_images: int | None = None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(train indices, validation indices), both ascending int64 and stratified by class.

    Validation is cut first, so it does not depend on `train_images`; `vitbench.data.info.validation_images` says how many.
    Every class with two images or more keeps at least one on either side. Raises ValueError where validation would be
    empty, and when `train_images` is larger than what is left.
    """
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction {validation_fraction} must lie between 0 and 1; 0.1 is usual")
    if not len(labels):
        raise ValueError("labels are empty, there is nothing to split; give at least two images per class")
    shuffled = [random_state("split", seed, int(c)).permutation(np.flatnonzero(labels == c)) for c in classes]
    total = validation_images(counts.tolist(), validation_fraction)
    held_out = _allocate(counts, total, at_least=(counts > 1).astype(np.int64), at_most=counts - 1)
    left = counts - held_out
    if train_images is None:
        taken = left
    elif train_images < 1:
        raise ValueError(f"train_images {train_images} must be positive; leave it out to train on all")
    elif train_images > left.sum():
        raise ValueError(
            f"train_images {train_images} is larger than the {left.sum()} images left after the validation split; "
            f"use at most {left.sum()}"
        )
    else:
        # A subset smaller than the number of classes cannot hold them all.
        floor = np.minimum(left, int(train_images >= len(classes)))
        taken = _allocate(left, train_images, at_least=floor, at_most=left)
    validation = np.concatenate([rows[:n] for rows, n in zip(shuffled, held_out, strict=True)])
    train = np.concatenate([rows[n : n + m] for rows, n, m in zip(shuffled, held_out, taken, strict=True)])
    return np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)


def _allocate(counts: np.ndarray, total: int, *, at_least: np.ndarray, at_most: np.ndarray) -> np.ndarray:
    """Shares `total` among classes in proportion to `counts` [K], by largest remainder, within bounds [K]."""
    total = int(np.clip(total, at_least.sum(), at_most.sum()))
    quota = total * counts / counts.sum()
    share = np.clip(np.floor(quota).astype(np.int64), at_least, at_most)
    while share.sum() < total:
        share[np.argmax(np.where(share < at_most, quota - share, -np.inf))] += 1
    while share.sum() > total:
        share[np.argmax(np.where(share > at_least, share - quota, -np.inf))] -= 1
    return np.asarray(share)


def epoch_order(
    indices: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    repeats: int = 1,
    first_batch: int = 0,
    last_batch: int | None = None,
) -> np.ndarray:
    """Which images an epoch trains on, one after the other: `indices`, shuffled by (seed, epoch), int64.

    With `repeats` an image comes so many times in a row, and an epoch is the first images of the shuffled order that make as
    many as there are without (Hoffer et al. 2020; DeiT's `RASampler`, all its processes together). The ragged last batch is
    dropped. From `first_batch` to before `last_batch`, where they are given. Raises ValueError when there are fewer indices
    than `batch_size`.
    """
    if len(indices) < batch_size:
        raise ValueError(
            f"batch_size {batch_size} is larger than the {len(indices)} training images; use at most {len(indices)}"
        )
    order = random_state("epoch", seed, epoch).permutation(np.asarray(indices))
    if repeats > 1:
        order = np.repeat(order, repeats)[: len(order)]
    num_batches = len(order) // batch_size
    last = num_batches if last_batch is None else min(last_batch, num_batches)
    return order[first_batch * batch_size : last * batch_size]
