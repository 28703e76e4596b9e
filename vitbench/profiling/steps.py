"""What is timed? An inference pass, or a training step and its three phases, of any module on one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InferencePass:
    """images [B, C, H, W], already on the device, to logits, without gradients."""

    def __init__(
        self, model: nn.Module, images: Tensor, *, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.model = model.eval()
        self.images = images
        self.autocast = autocast

    def __call__(self) -> Tensor:
        with torch.inference_mode(), self.autocast():
            logits: Tensor = self.model(self.images)
        return logits


class TrainingStep:
    """Forward, backward and AdamW with a clipped gradient norm, as the training loop does them, on one batch.

    The three phases may be called one after the other, to time each.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        *,
        num_classes: int,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.model = model.train()
        self.images = images
        self.labels = torch.arange(len(images), device=images.device) % num_classes
        self.autocast = autocast
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # With so small a rate the weights stay as they are: every step must cost the same.
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-9, fused=True)
        self.loss: Tensor | None = None

    def forward(self) -> None:
        with self.autocast():
            logits = self.model(self.images)
        self.loss = F.cross_entropy(logits.float(), self.labels)

    def backward(self) -> None:
        assert self.loss is not None, "forward comes first"
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.backward()
        self.loss = None

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()

    def __call__(self) -> None:
        self.forward()
        self.backward()
        self.update()


Work = InferencePass | TrainingStep
"""What is timed: a call that does the same each time."""
