"""What is in the data sets that need no files? They are generated, or come with scikit-learn, within a second.

`digits` has no official split; it gets a fixed one that no run's seed changes.
"""

from __future__ import annotations

import numpy as np

from vitbench.data import shapes
from vitbench.data.decode import fit_array
from vitbench.data.splits import split

_DIGITS_SEED = 0

_SIDES = ("left", "right", "above", "below")
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "digits": tuple("0123456789"),
    "shapes": _SIDES,
    "shapes/relation": ("left of the square", "right of the square", "above the square", "below the square"),
    "shapes/quadrant": ("upper left", "upper right", "lower left", "lower right"),
}
"""By label."""


def arrays(
    dataset: str, size: tuple[int, int], resized: tuple[int, int]
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((images, labels) of train, of test): uint8 [N, 1, H, W] and int64 [N]; `size` and `resized` as `fit` takes them."""
    if dataset == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]  # stored as 0 … 16
        labels = digits.target.astype(np.int64)
        train, test = split(labels, validation_fraction=1 / 3, seed=_DIGITS_SEED)
        images = fit_array(images, size, resized)
        return (images[train], labels[train]), (images[test], labels[test])
    if resized != size:
        raise ValueError(f"eval_crop would blur the cells of {dataset!r} into each other; leave it at 1")
    height, width = size
    factor = height // shapes.SIZE
    if height != width or height % shapes.SIZE or not factor:
        raise ValueError(
            f"image_size {height}×{width} would blur the cells of {dataset!r} into each other; "
            f"use a square multiple of {shapes.SIZE}"
        )
    # Whole pixels are repeated: interpolation would carry light across cell borders and break the proof.
    (train_images, train_labels), (test_images, test_labels) = shapes.generate(dataset)
    return (_repeat(train_images, factor), train_labels), (_repeat(test_images, factor), test_labels)


def _repeat(images: np.ndarray, factor: int) -> np.ndarray:
    return images if factor == 1 else images.repeat(factor, axis=2).repeat(factor, axis=3)
