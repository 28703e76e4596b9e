"""How good is a model on a split: its top-1 accuracy and loss, and which classes it takes for which?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class Evaluation:
    """`loss` in nats, mean over images; `correct`: bool [N] in the order of the batches; `seconds`: data and forward."""

    loss: float
    correct: NDArray[np.bool_]
    seconds: float

    @property
    def top1(self) -> float:
        """Fraction of images classified right, in [0, 1]."""
        return float(self.correct.mean())


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    synchronize: Callable[[], None],
) -> Evaluation:
    """Evaluates on `batches` of images [B, C, H, W] and labels [B]; leaves the model in the mode that it came in."""
    training = model.training
    model.eval()
    losses, correct = [], []
    synchronize()
    start = time.perf_counter()
    for images, labels in batches:
        with autocast():
            logits = model(images)
        losses.append(F.cross_entropy(logits.float(), labels, reduction="sum"))
        correct.append(logits.argmax(dim=-1) == labels)
    right = torch.cat(correct).cpu().numpy()
    loss = torch.stack(losses).double().sum().item() / len(right)
    synchronize()
    seconds = time.perf_counter() - start
    model.train(training)
    return Evaluation(loss, right, seconds)


def confusion_counts(labels: NDArray[np.int64], predicted: NDArray[np.int64], *, num_classes: int) -> NDArray[np.int64]:
    """How many images of each class (row) were taken for each class (column): labels and predictions [N] → [K, K]."""
    assert len(labels) == len(predicted)
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)
