"""Random features whose classes overlap, as float32 in memory or in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.evaluation.features import LabelledFeatures, keep


def make_features(
    count: int, *, width: int = 7, classes: tuple[int, ...] = (0, 1, 2), seed: int = 0, spread: float = 1.0
) -> LabelledFeatures:
    """Normal around a centre for each class, on different scales and away from 0."""
    random = np.random.RandomState(seed)
    centres = np.random.RandomState(99).normal(size=(max(classes) + 1, width))
    labels = np.array(classes)[random.randint(len(classes), size=count)]
    values = (centres[labels] + spread * random.normal(size=(count, width))) * np.geomspace(0.1, 10, width) + 3
    return LabelledFeatures(values.astype(np.float32), labels.astype(np.int64))


def on_disk(features: LabelledFeatures, path: Path, *, batch_size: int = 32) -> LabelledFeatures:
    """The same features, mapped from a file that was written batch by batch."""
    batches = (values for values, _ in features.batches(batch_size=batch_size))
    return LabelledFeatures(keep(batches, num_images=len(features), folder=path.parent), features.labels)


def standardised(features: LabelledFeatures, *, by: LabelledFeatures | None = None) -> np.ndarray:
    """float64 [N, D], by NumPy, all at once: with the mean and standard deviation of `by`, by default its own."""
    source = (by or features).values.astype(np.float64)
    return (features.values.astype(np.float64) - source.mean(axis=0)) / (source.std(axis=0) + 1e-5)
