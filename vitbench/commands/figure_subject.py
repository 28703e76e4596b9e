"""Whose insides figures show: a trained model, and the images that it is shown."""

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

from vitbench.data import Images, StreamedImages, normalise
from vitbench.models import ViT
from vitbench.models.insides import NoSuchPartError
from vitbench.models.weights import Trained

SHOWN = 8
"""Images whose attention is pictured."""


@dataclass(frozen=True)
class Subject:
    """A trained model on `device`, and test images: `rows` of them for what costs attention maps."""

    trained: Trained
    images: Images | StreamedImages
    rows: NDArray[np.int64]
    num_classes: int
    class_names: tuple[str, ...]
    """By label; empty where classes have no names."""
    device: torch.device

    @property
    def vit(self) -> ViT:
        """Raises NoSuchPartError where the model is none."""
        return vit_of(self.trained)

    def batches(self, rows: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [B, C, H, W], normalised as those that the model was trained on, and labels [B]."""
        for pixels, labels in self.images.batches(rows, batch_size, self.device):
            yield normalise(pixels, self.trained.mean, self.trained.std), labels

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Up to SHOWN of the rows: the first of each class, then the second of each."""
        labels = self.images.labels[self.rows]
        before = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)])
        return self.rows[np.argsort(before, kind="stable")[:SHOWN]]

    def class_name(self, label: int) -> str:
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def described(self, first: int, labels: Tensor, logits: Tensor) -> list[dict[str, Any]]:
        """Row, label, prediction, and pixels as PNG in base64, of the shown images from number `first` on."""
        rows = self.shown[first : first + len(labels)]
        ((pixels, _),) = self.images.batches(rows, len(rows), torch.device("cpu"))
        predicted = logits.argmax(dim=-1)
        return [
            {
                "row": int(row),
                "label": self.class_name(label),
                "predicted": self.class_name(best),
                "png": _png(image.numpy()),
            }
            for row, label, best, image in zip(rows, labels.tolist(), predicted.tolist(), pixels, strict=True)
        ]


@dataclass(frozen=True)
class Compared:
    """Another trained model, and the same images at the size that it takes."""

    trained: Trained
    images: Images | StreamedImages


def vit_of(trained: Trained) -> ViT:
    """Raises NoSuchPartError where the model is another."""
    if not isinstance(trained.model, ViT):
        raise NoSuchPartError(f"{trained.model.config.timm} is timm's model, whose insides are not looked into")
    return trained.model


def _png(image: NDArray[np.uint8]) -> str:
    """uint8 [C, H, W]: RGB, or grey of the first channel."""
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
