"""What are a data set's mean, standard deviation and hash? Taken from its images chunk by chunk."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from vitbench.data.info import Dtype


class Measure:
    """Statistics of train and the hash of all images, which are added in chunks.

    Of integers they are exact whatever the chunks, and in shares of the type's largest value. Of float32 they are as stored,
    summed in float64 around each chunk's own mean, and chunks are put together as Chan et al. (1983, eq. 2.1) do.
    """

    def __init__(self, in_channels: int, dtype: Dtype = "uint8") -> None:
        self.digest = hashlib.sha256()
        self._levels = 0 if dtype == "float32" else np.iinfo(dtype).max + 1
        self._histogram = np.zeros((in_channels, self._levels), dtype=np.int64)
        self._count = 0
        self._mean, self._squares = np.zeros(in_channels), np.zeros(in_channels)

    def add(self, images: np.ndarray, *, train: bool) -> None:
        """Images [N, C, H, W] of the type."""
        self.digest.update(np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("<")).data)
        if train and self._levels:
            for channel, counts in enumerate(self._histogram):
                counts += np.bincount(images[:, channel].ravel(), minlength=self._levels)
        elif train:
            self._add_floats(images)

    def _add_floats(self, images: np.ndarray) -> None:
        count = images[:, 0].size
        mean = images.mean(axis=(0, 2, 3), dtype=np.float64)
        squares = np.square(images - mean[:, None, None]).sum(axis=(0, 2, 3))
        away, total = mean - self._mean, self._count + count
        self._squares += squares + away**2 * (self._count * count / total)
        self._mean += away * (count / total)
        self._count = total

    def add_labels(self, labels: np.ndarray) -> None:
        """int64 [N]."""
        self.digest.update(labels.astype("<i8").tobytes())

    def result(self) -> dict[str, Any]:
        """`mean` and `std` by channel, and `sha256`."""
        mean, variance = self._moments() if self._levels else (self._mean, self._squares / max(self._count, 1))
        return {"mean": mean.tolist(), "std": np.sqrt(variance).tolist(), "sha256": self.digest.hexdigest()}

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        level = np.arange(self._levels) / (self._levels - 1)
        total = self._histogram.sum(axis=1)
        mean = self._histogram @ level / total
        variance = (self._histogram * (level - mean[:, None]) ** 2).sum(axis=1) / total
        is_constant = np.count_nonzero(self._histogram, axis=1) == 1  # its mean is rounded, and would leave 1e-17
        return mean, np.where(is_constant, 0.0, variance)
