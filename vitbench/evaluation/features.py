"""What are the features of a frozen model, its pre-logits, and how do methods read those of a million images?

From a file on disk, batch by batch, as often as they like.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.files import cannot_write

BATCH = 4096
"""Images whose features are read at a time."""
STD_FLOOR = 1e-5
"""Added to standard deviations, as big_vision does: a feature that never varies becomes 0."""


@dataclass(frozen=True)
class LabelledFeatures:
    """`values`: float32 [N, D], in memory or mapped from a file; `labels`: int64 [N]."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.labels):
            raise ValueError(
                f"features {self.values.shape} must be [N, D] for labels {self.labels.shape}; give one label a row"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def batches(
        self, rows: NDArray[np.int64] | None = None, *, batch_size: int = BATCH
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """(features [B, D], labels [B]) of `rows` in their order, of all by default; the last batch may be smaller."""
        for start in range(0, len(self if rows is None else rows), batch_size):
            taken = slice(start, start + batch_size) if rows is None else rows[start : start + batch_size]
            yield np.asarray(self.values[taken]), self.labels[taken]


@dataclass(frozen=True)
class Standardise:
    """(x − mean) / (std + `STD_FLOOR`), feature by feature; `mean` and `scale` are float64 [D]."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(
        cls, features: LabelledFeatures, rows: NDArray[np.int64] | None = None, *, batch_size: int = BATCH
    ) -> Standardise:
        """With the mean and the population standard deviation of these rows, in two passes over them."""
        count = len(features if rows is None else rows)
        total = np.zeros(features.width)
        for values, _ in features.batches(rows, batch_size=batch_size):
            total += values.sum(axis=0, dtype=np.float64)
        mean = total / count
        squares = np.zeros(features.width)
        for values, _ in features.batches(rows, batch_size=batch_size):
            squares += ((values - mean) ** 2).sum(axis=0)
        return cls(mean, np.sqrt(squares / count) + STD_FLOOR)

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray((values - self.mean) / self.scale)


@torch.inference_mode()
def feature_batches(
    features: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Iterator[NDArray[np.float32]]:
    """`features` of every batch of images [B, C, H, W], as float32 [B, D] on the CPU.

    The model behind `features` must be in evaluation mode. Raises ValueError where a feature is not finite.
    """
    done = 0
    for images in batches:
        with autocast():
            output = features(images)
        values: NDArray[np.float32] = output.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError(
                f"features of images {done} to {done + len(values) - 1} are not all finite; give other weights"
            )
        done += len(values)
        yield values


def keep(batches: Iterable[NDArray[np.float32]], *, num_images: int, folder: Path) -> NDArray[np.float32]:
    """Writes batches [B, D] to a nameless file in `folder`; returns it mapped into memory, [num_images, D].

    Nothing is left of the file, however the process ends. Raises ValueError where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Not mapped: a full disk is then an error and no SIGBUS.
            width = write_array(file, batches, num_images=num_images)
            file.flush()
            after_header = file.tell() - 4 * num_images * width
            return np.memmap(file, "<f4", mode="r", offset=after_header, shape=(num_images, width))
    except OSError as error:
        raise cannot_write(
            "cache", folder, error, "free space there or set VITBENCH_CACHE to another folder"
        ) from error


def write_array(file: BinaryIO, batches: Iterable[NDArray[np.float32]], *, num_images: int) -> int:
    """Writes an array [num_images, D], whose rows come in `batches`, one at least, in the format of .npy; returns D."""
    done = width = 0
    for values in batches:
        if not done:
            width = values.shape[1]
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_images, width)}
            np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(values, dtype="<f4").data)
        done += len(values)
    assert done == num_images, f"{done} features of {num_images} images"
    return width
