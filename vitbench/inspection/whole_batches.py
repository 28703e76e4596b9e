"""Does what a model learns from an image depend on the other images of its batch? Then a batch is not computed in slices."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from vitbench.config import ModelConfig, ViTConfig, user_names
from vitbench.generators import seeded
from vitbench.inspection.check_bench import differ, move
from vitbench.inspection.check_masks import drops
from vitbench.models import build_model
from vitbench.training.step import seed_dropout

IMAGES = 4


@cache
def batch_dependence(config: ModelConfig) -> str:
    """`norm (BatchNorm2d)`, or in what other way training needs its batch whole; empty where it does not.

    Of a user's code or a model of timm, by a forward pass too; what cannot be built or run is left for others to tell.
    """
    if isinstance(config, ViTConfig) and not user_names(config):
        return "stem (BatchNorm2d)" if config.stem == "conv" else ""
    try:
        with seeded(0):
            model = move(build_model(config, seed=0))
            norms = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            if norms:
                name, norm = norms[0]
                return f"{name} ({type(norm).__name__})"
            return _by_forward_pass(model, torch.randn(IMAGES, config.in_channels, *config.image_hw))
    except Exception:  # whatever a user's code raises
        return ""


@torch.no_grad()
def _by_forward_pass(model: nn.Module, images: Tensor) -> str:
    model.train()
    for module in model.modules():
        if drops(module):
            module.training = False
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    whole = _logits(model, images, 0)
    changed = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])]
    if changed:
        return f"{changed[0]}, which each forward pass changes"
    draws = not torch.equal(whole, _logits(model, images, 1))
    if not draws and differ(_logits(model, images[: IMAGES // 2], 0), whole[: IMAGES // 2], 1e-4):
        return "logits that depend on the other images of the batch"
    return ""


def _logits(model: nn.Module, images: Tensor, seed: int) -> Tensor:
    seed_dropout(seed, images.device)
    logits: Tensor = model(images)
    return logits
