"""How much memory does a training step take? Measured on a few images, so that any number of them can be told."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from vitbench.config import RunConfig
from vitbench.costs.memory import StepMemory, image_bytes
from vitbench.inspection.check_bench import Bench
from vitbench.training.step import training_step


def step_memory(config: RunConfig, bench: Bench, images: Tensor, targets: Tensor) -> StepMemory | None:
    """From steps on `images` [B, C, H, W] and on half of them; None where the device does not tell."""
    tried, few = len(images), min(2, len(images))
    least = step_peak(config, bench, images[:few], targets[:few])
    if least is None:
        return None
    # Of few images, the optimizer's step may take more than they do: then the peak itself hardly grows with them.
    of_images = step_peak(config, bench, images, targets, keep_gradients=False) or 0
    of_half = step_peak(config, bench, images[: tried // 2], targets[: tried // 2], keep_gradients=False) or 0
    per_image = (of_images - of_half) / (tried - tried // 2)
    _, _, trained = bench.trained(config)
    weights = sum(parameter.nbytes for parameter in trained.values())
    return StepMemory(
        fixed=round(of_images - per_image * tried) + weights,
        per_image=per_image,
        per_image_of_batch=image_bytes(config),
        average=weights * (config.train.ema_decay is not None),
        least=least,
    )


def step_peak(
    config: RunConfig, bench: Bench, images: Tensor, targets: Tensor, *, keep_gradients: bool = True
) -> int | None:
    """Of the second step, the first in which the optimizer has its state; without gradients, of what images take alone."""
    device = bench.device
    device.start_memory()
    model, optimizer, named_parameters = bench.trained(config)
    parameters = [*named_parameters.values()]
    for context in (nullcontext(), device.watch_memory()):
        if not keep_gradients:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        with context:
            training_step(model, optimizer, images, targets, parameters, config.train, lambda: bench.autocast(config))
    return device.peak_memory_bytes()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def random_batch(config: RunConfig, images: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise [`images`, C, H, W] and classes, for which memory is what it is for a data set's."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images, config.model.in_channels, *config.model.image_hw, generator=generator)
    return noise.to(device), (torch.arange(images) % config.model.num_classes).to(device)
