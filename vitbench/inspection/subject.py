"""Which model is looked into, and which images is it shown?"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitbench.data import ImageData
from vitbench.inspection.loaded_model import LoadedModel

MOST_PICTURED = 8
"""Images that are shown with their attention."""


@dataclass(frozen=True)
class Subject:
    """A model on `device`, and the test images; `rows` of them for what costs attention maps or layers' outputs."""

    loaded: LoadedModel
    data: ImageData
    rows: NDArray[np.int64]
    device: torch.device

    def batches(self, rows: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [B, C, H, W], normalised as those that the model was trained on, and labels [B]."""
        for pixels, labels in self.data.test.batches(rows, batch_size, self.device):
            yield self.loaded.normalised(pixels), labels

    @cached_property
    def pictured(self) -> NDArray[np.int64]:
        """Up to MOST_PICTURED of the rows: the first of each class, then the second of each."""
        labels = self.data.test.labels[self.rows]
        earlier_of_class = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)])
        return self.rows[np.argsort(earlier_of_class, kind="stable")[:MOST_PICTURED]]

    def class_name(self, label: int) -> str:
        names = self.data.class_names
        return names[label] if label < len(names) else str(label)

    def predicted_name(self, label: int) -> str:
        """By the model's class names, else by the images' where there are as many classes, else the number."""
        if label < len(self.loaded.class_names):
            return self.loaded.class_names[label]
        is_same_number = self.loaded.model.config.num_classes == self.data.info.num_classes
        return self.class_name(label) if is_same_number else str(label)

    def pictures(self, first: int, labels: Tensor, logits: Tensor) -> list[dict[str, Any]]:
        """Row, label, prediction, and pixels as PNG in base64, of the pictured images from number `first` on."""
        rows = self.pictured[first : first + len(labels)]
        ((pixels, _),) = self.data.test.batches(rows, len(rows), torch.device("cpu"))
        predicted = logits.argmax(dim=-1).tolist()
        return [
            {
                "row": int(row),
                "label": self.class_name(label),
                "predicted": self.predicted_name(prediction),
                "png": _png(image.numpy()),
            }
            for row, label, prediction, image in zip(rows, labels.tolist(), predicted, pixels, strict=True)
        ]


def _png(image: NDArray[Any]) -> str:
    """uint8 or float32 [C, H, W]: RGB of the first three channels, or grey of the first; floats between their least and
    largest value.
    """
    image = image[:3] if len(image) >= 3 else image[:1]
    if image.dtype != np.uint8:
        least, largest = image.min(), image.max()
        image = np.rint((image - least) * (255 / ((largest - least) or 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)) if len(image) == 3 else image[0]).save(
        buffer, format="png"
    )
    return base64.b64encode(buffer.getvalue()).decode()
