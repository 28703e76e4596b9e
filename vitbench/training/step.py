"""What does one step of training do? Forward and backward on its batch, whole or slice by slice, and one update."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from vitbench.config import TrainConfig
from vitbench.training.losses import LOSSES

BeginSlice = Callable[[int], None]
"""Called before each slice of a batch with the number of its first image."""


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    targets: Tensor,
    parameters: list[nn.Parameter],
    config: TrainConfig,
    autocast: Callable[[], AbstractContextManager[object]],
    *,
    micro_batch: int | None = None,
    begin_slice: BeginSlice = lambda _: None,
    weight: float = 1.0,
) -> Tensor:
    """Forward, backward and one step of the optimizer; returns the loss of the whole batch.

    images: [B, C, H, W]; targets: classes [B], or shares of classes [B, K]. With a `micro_batch`, gradients are accumulated
    over slices of so many images, of which the last may have fewer. `weight` as of `compute_gradients`.
    """
    loss = compute_gradients(
        model,
        optimizer,
        images,
        targets,
        config,
        autocast,
        micro_batch=micro_batch,
        begin_slice=begin_slice,
        weight=weight,
    )
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    optimizer.step()
    return loss


def compute_gradients(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    targets: Tensor,
    config: TrainConfig,
    autocast: Callable[[], AbstractContextManager[object]],
    *,
    micro_batch: int | None = None,
    begin_slice: BeginSlice = lambda _: None,
    weight: float = 1.0,
) -> Tensor:
    """Leaves the gradient of the mean loss over `images` [B, C, H, W] in the parameters; returns that loss.

    A slice's mean counts by its share of the images, so that a last slice of fewer has no more weight an image.
    Gradients, not the loss, are multiplied with `weight`: among ranks, whose gradients are averaged, their number times the
    rank's share of the batch.
    """
    size = micro_batch or len(images)
    losses = []
    for first in range(0, len(images), size):
        begin_slice(first)
        part = images[first : first + size]
        is_last = first + size >= len(images)
        with nullcontext() if is_last else _without_exchange(model), autocast():
            logits = model(part)
        loss = LOSSES[config.loss](
            logits.to(torch.promote_types(logits.dtype, torch.float32)),
            targets[first : first + size],
            label_smoothing=config.label_smoothing,
        )
        if len(part) < len(images):
            loss = loss * (len(part) / len(images))
        if first == 0:
            optimizer.zero_grad(set_to_none=True)
        (loss if weight == 1 else loss * weight).backward()
        losses.append(loss.detach())
        if first == 0 and size < len(images) and images.is_cuda:
            _own_gradients(model)
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def _without_exchange(model: nn.Module) -> AbstractContextManager[object]:
    """Ranks exchange gradients once a step, with its last slice."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def _own_gradients(model: nn.Module) -> None:
    """Copies gradients out of what the backward pass gave: of a CUDA graph, the next slice would overwrite it."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad.clone()


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds dropout and drop path on `device`.

    Not by torch.manual_seed: where CUDA is not in use, it keeps every call with its stack for later, at 0.7 ms a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def step_seed(seed: int, step: int, first_image: int = 0) -> int:
    """Seed of all that is random within a step, or within its slice from `first_image` on: a function of these alone.

    Hashed, because torch's generator for CPU keeps only the low 32 bits of what it is given.
    """
    key = f"{seed}:{step}:{first_image}" if first_image else f"{seed}:{step}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
