"""What updates the weights, and by how much: timm's optimizer and scheduler factories, with our rule for weight decay."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from vitbench.config import TrainConfig


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters without weight decay: all but the weights of linear layers and convolutions.

    These are biases, norms, scales, class token, registers, queries and position tables.
    """
    weights = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    return {name for name, _ in model.named_parameters() if name not in weights}


def check_optimizer(name: str) -> None:
    """Raises ValueError for a name that timm does not know."""
    known = list_optimizers()
    if name.lower() not in known:
        close = get_close_matches(name, known, n=3)
        raise ValueError(
            f"optimizer {name!r} is not one of timm's; try {' or '.join(close or ['adamw', 'sgd', 'lion'])}"
        )


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """timm's optimizer of that name, in two groups: with weight decay and without.

    Raises ValueError for a name that timm does not know.
    """
    no_decay = undecayed(model)
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for name, p in named.items() if name not in no_decay], "weight_decay": config.weight_decay},
        {"params": [p for name, p in named.items() if name in no_decay], "weight_decay": 0.0},
    ]
    fused: dict[str, Any] = {"fused": True} if config.optimizer == "adamw" else {}
    try:
        optimizer: Optimizer = create_optimizer_v2(
            groups, opt=config.optimizer, lr=config.learning_rate, weight_decay=0.0, **fused
        )
    except (ValueError, AssertionError) as error:
        raise ValueError(f"optimizer {config.optimizer!r}: {error}; see timm.optim.list_optimizers()") from error
    return optimizer


def build_schedule(optimizer: Optimizer, config: TrainConfig, *, num_steps: int) -> Scheduler:
    """Linear warm-up, then a half cosine to 0; `schedule.step_update(step + 1)` before each step counted from 0.

    The first step has 1/warm-up of the peak and the last still a little: no step is spent at a rate of 0.
    """
    warmup = round(config.warmup_fraction * num_steps)
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=num_steps + 1 - warmup,
        warmup_epochs=warmup,
        warmup_prefix=True,
        warmup_lr=0.0,
        min_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    assert schedule is not None
    return schedule
