"""How good is a run's final model on distorted test images?"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from torch import nn

from vitbench.config import ViTConfig, distorted_metric, strengths_on
from vitbench.evaluation import Evaluation, evaluate
from vitbench.evaluation.distorted_images import distorted
from vitbench.execution.run_data import EVALUATION_BATCH, RunData


def distorted_metrics(
    data: RunData, model: nn.Module, *, precision: str, tell: Callable[[str], None]
) -> dict[str, float]:
    """Top-1 and loss on all test images by name, `shift_4/test_top1`, for each distortion that the run asks for.

    `tell` gets a line before each. A loss that is not finite, which no record can hold, is left out.
    """
    metrics: dict[str, float] = {}
    for name in data.config.evaluate:
        for strength in strengths_on(name, data.config.model.image_hw):
            tell(f"test images: {name} {strength:g}")
            test = evaluate_distorted(data, model, name, strength, precision=precision)
            metrics[distorted_metric(name, strength, "test_top1")] = test.top1
            if math.isfinite(test.loss):
                metrics[distorted_metric(name, strength, "test_loss")] = test.loss
    return metrics


def evaluate_distorted(data: RunData, model: nn.Module, name: str, strength: float, *, precision: str) -> Evaluation:
    """`model` on the whole test split, each image distorted; at strength 0, as it is."""
    test, config, device = data.evaluated.test, data.config.model, data.device
    indices = np.arange(len(test.labels))
    places = (indices[start : start + EVALUATION_BATCH] for start in range(0, len(indices), EVALUATION_BATCH))
    batches = test.batches(indices, EVALUATION_BATCH, device.torch_device)
    patch_hw = config.patch_hw if isinstance(config, ViTConfig) else None
    change = partial(distorted, name=name, strength=strength, normalise=data.normalised, patch_hw=patch_hw)
    return evaluate(
        model,
        ((change(pixels, indices=place), labels) for place, (pixels, labels) in zip(places, batches, strict=True)),
        autocast=partial(device.autocast, precision),
        synchronize=device.synchronize,
    )
