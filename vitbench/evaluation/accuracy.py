"""How good is a model on a split: its accuracy, loss and calibration, and which classes it takes for which?"""

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

from vitbench.evaluation.calibration import binned_error, binned_error_of_equal_mass

TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """What a model gave on N images, in the order of the batches. Shares are in [0, 1]."""

    loss: float
    """In nats, mean over images."""
    correct: NDArray[np.bool_]
    """[N]"""
    seconds: float
    """Data, forward and scores."""
    labels: NDArray[np.int64]
    """[N]"""
    confidences: NDArray[np.float32]
    """[N]: the probability of the class that was answered."""
    squared_errors: NDArray[np.float32]
    """[N]: of the probabilities against 1 for the label and 0 for the others, summed over classes."""
    in_top5: NDArray[np.bool_] | None
    """[N]: whether the label is among the five classes of the highest logits; None with five classes or fewer."""

    @property
    def top1(self) -> float:
        """Share of images classified right."""
        return float(self.correct.mean())

    @property
    def top5(self) -> float | None:
        """Share of images whose label is among the five most probable classes; None with five classes or fewer."""
        return None if self.in_top5 is None else float(self.in_top5.mean())

    @property
    def balanced_top1(self) -> float:
        """Mean over the classes that have images of the share of a class's images classified right."""
        images = np.bincount(self.labels)
        right = np.bincount(self.labels[self.correct], minlength=len(images))
        return float((right[images > 0] / images[images > 0]).mean())

    @property
    def brier(self) -> float:
        """The Brier score of several classes (Brier 1950): mean of `squared_errors`, in [0, 2]."""
        return min(float(self.squared_errors.mean(dtype=np.float64)), 2.0)

    @property
    def metrics(self) -> dict[str, float]:
        """Everything by name: `top1`, `loss`, `top5` where there is one, `balanced_top1`, `brier`, `ece`, `ece_mass`."""
        return {
            "top1": self.top1,
            "loss": self.loss,
            **({} if self.top5 is None else {"top5": self.top5}),
            "balanced_top1": self.balanced_top1,
            "brier": self.brier,
            "ece": binned_error(self.confidences, self.correct),
            "ece_mass": binned_error_of_equal_mass(self.confidences, self.correct),
        }


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    synchronize: Callable[[], None],
) -> Evaluation:
    """Evaluates on `batches` of images [B, C, H, W] and labels [B]; leaves the model in the mode that it came in.

    Scores stay on the device until the last batch: one number of each kind for every image.
    """
    training = model.training
    model.eval()
    scores: list[_Scores] = []
    synchronize()
    start = time.perf_counter()
    for images, labels in batches:
        with autocast():
            logits = model(images)
        scores.append(_scores(logits, labels))
    losses, labels_, correct, confidences, errors, in_top5 = (torch.cat(values) for values in zip(*scores, strict=True))
    right = correct.cpu().numpy()
    loss = losses.double().sum().item() / len(right)
    synchronize()
    seconds = time.perf_counter() - start
    model.train(training)
    return Evaluation(
        loss=loss,
        correct=right,
        seconds=seconds,
        labels=labels_.cpu().numpy(),
        confidences=confidences.cpu().numpy(),
        squared_errors=errors.cpu().numpy(),
        in_top5=in_top5.cpu().numpy() if len(in_top5) else None,
    )


_Scores = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _scores(logits: Tensor, labels: Tensor) -> _Scores:
    """Of logits [B, K] and labels [B]: (the summed loss [1], labels, correct, confidences, squared errors, in_top5), each
    [B], in float32; in_top5 is [0] with five classes or fewer.
    """
    correct = logits.argmax(dim=-1) == labels
    log_probabilities = F.log_softmax(logits.float(), dim=-1)
    loss = F.nll_loss(log_probabilities, labels, reduction="sum")
    errors = log_probabilities.exp_()
    confidences = errors.amax(dim=-1)
    # Not Σ p² − 2 p + 1: where predictions are nearly right, rounding would leave less than 0.
    errors.scatter_add_(1, labels[:, None], errors.new_full((len(labels), 1), -1.0))
    return loss[None], labels, correct, confidences, errors.square_().sum(dim=-1), _in_top5(logits, labels)


def _in_top5(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether fewer than five classes come before the label; of equal logits the first comes first, as for `argmax`."""
    num_classes = logits.shape[-1]
    if num_classes <= TOP:
        return labels.new_empty(0, dtype=torch.bool)
    of_label = logits.gather(1, labels[:, None])
    is_earlier = torch.arange(num_classes, device=labels.device) < labels[:, None]
    before = (logits > of_label) | ((logits == of_label) & is_earlier)
    return before.sum(dim=-1) < TOP


def confusion_counts(labels: NDArray[np.int64], predicted: NDArray[np.int64], *, num_classes: int) -> NDArray[np.int64]:
    """How many images of each class (row) were taken for each class (column): labels and predictions [N] → [K, K]."""
    assert len(labels) == len(predicted)
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)
