"""Which weights are evaluated with `ema_decay`? An exponential moving average of those that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average ← d · average + (1 − d) · weights after every step, d = min(decay, (1 + t) / (10 + t)) after step t from 0.

    The smaller decay of the first steps, as in TensorFlow's ExponentialMovingAverage, lets a short run forget its initial
    weights: the average reaches back over about a ninth of the steps so far. Running statistics (BatchNorm's) are averaged
    too, since they belong to the weights of their step; integer buffers are not.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = [t.detach() for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
        self.tensors = [t.clone() for t in self._weights]

    def update(self, step: int) -> None:
        """Adds the weights after `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.tensors, self._weights, 1 - decay)

    def restore(self, tensors: list[Tensor]) -> None:
        """Continues from an earlier average."""
        torch._foreach_copy_(self.tensors, tensors)

    def apply(self) -> None:
        """Leaves the average in the model."""
        torch._foreach_copy_(self._weights, self.tensors)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While entered, the model has the average; afterwards the weights from before, bit for bit."""
        weights = [t.clone() for t in self._weights]
        self.apply()
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, weights)
