"""What is minimised? The losses of `TrainConfig.loss`, of logits against classes or shares of classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Mean over the batch, in nats. Soft targets come smoothed from the augmentation already."""
    return F.cross_entropy(logits, targets, label_smoothing=0.0 if targets.is_floating_point() else label_smoothing)


def binary_cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Mean over the batch and the classes, in nats, of the sigmoid's cross-entropy with 1 for each class that an image is of.

    A mixed image is of both of its classes, whatever their shares, as in DeiT III's code. Smoothing s makes 1 − s + s/K of 1
    and s/K of 0, as in timm's BinaryCrossEntropy. logits: [B, K]; targets: classes [B], or shares of classes [B, K] that come
    smoothed from the augmentation.
    """
    num_classes = logits.shape[-1]
    floor = label_smoothing / num_classes
    shares = targets if targets.is_floating_point() else F.one_hot(targets, num_classes)
    present = shares > floor + 1e-6  # float32's rounding of a mix is less
    return F.binary_cross_entropy_with_logits(logits, present * (1 - label_smoothing) + floor)


LOSSES = {"cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy}
"""By their names in `TrainConfig.loss`."""
