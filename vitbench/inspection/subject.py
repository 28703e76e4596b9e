"""Whose insides figures show: weights of a run or from elsewhere, and the images that they are shown."""

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

from vitbench.data import Images, StreamedImages
from vitbench.inspection.loaded_model import Weights
from vitbench.models import ViT
from vitbench.models.insides import NoSuchPartError

SHOWN = 8
"""Images whose attention is pictured."""


@dataclass(frozen=True)
class Subject:
    """A model on `device`, and test images: `rows` of them for what costs attention maps."""

    weights: Weights
    images: Images | StreamedImages
    rows: NDArray[np.int64]
    num_classes: int
    class_names: tuple[str, ...]
    """By label; empty where classes have no names."""
    device: torch.device

    @property
    def vit(self) -> ViT:
        """Raises NoSuchPartError where the model is none."""
        return vit_of(self.weights)

    def batches(self, rows: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [B, C, H, W], normalised as those that the model was trained on, and labels [B]."""
        for pixels, labels in self.images.batches(rows, batch_size, self.device):
            yield self.weights.normalised(pixels), labels

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Up to SHOWN of the rows: the first of each class, then the second of each."""
        labels = self.images.labels[self.rows]
        before = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)])
        return self.rows[np.argsort(before, kind="stable")[:SHOWN]]

    def class_name(self, label: int) -> str:
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def predicted_name(self, label: int) -> str:
        """The model's name for its class, else that of the images' classes, where there are as many, else its number."""
        if label < len(self.weights.class_names):
            return self.weights.class_names[label]
        return self.class_name(label) if self.weights.model.config.num_classes == self.num_classes else str(label)

    def described(self, first: int, labels: Tensor, logits: Tensor) -> list[dict[str, Any]]:
        """Row, label, prediction, and pixels as PNG in base64, of the shown images from number `first` on."""
        rows = self.shown[first : first + len(labels)]
        ((pixels, _),) = self.images.batches(rows, len(rows), torch.device("cpu"))
        predicted = logits.argmax(dim=-1)
        return [
            {
                "row": int(row),
                "label": self.class_name(label),
                "predicted": self.predicted_name(best),
                "png": _png(image.numpy()),
            }
            for row, label, best, image in zip(rows, labels.tolist(), predicted.tolist(), pixels, strict=True)
        ]


@dataclass(frozen=True)
class Compared:
    """Another model, and the same images at the size that it takes."""

    weights: Weights
    images: Images | StreamedImages


def vit_of(weights: Weights) -> ViT:
    """Raises NoSuchPartError where the model is another."""
    if not isinstance(weights.model, ViT):
        raise NoSuchPartError(f"{weights.model.config.timm} is timm's model, whose insides are not looked into")
    return weights.model


def _png(image: NDArray[np.uint8]) -> str:
    """uint8 [C, H, W]: RGB, or grey of the first channel."""
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
