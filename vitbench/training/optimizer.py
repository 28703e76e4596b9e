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

MUONS = ("muon", "nmuon", "adamuon", "nadamuon")
"""timm's names for Muon and its variants."""

SCHEDULES: dict[str, dict[str, Any]] = {
    "cosine": {"sched": "cosine"},
    "linear": {"sched": "poly", "decay_rate": 1.0},  # the power of a polynomial
}


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters without weight decay: all but the weights of linear layers and convolutions.

    These are biases, norms, scales, class token, registers, queries and position tables.
    """
    weights = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    return {name for name, _ in model.named_parameters() if name not in weights}


def orthogonalised(model: nn.Module) -> set[str]:
    """Names of the parameters that Muon takes: the weights of the linear layers in the encoder's blocks.

    Stem, tables, norms, biases, pooling and head are AdamW's: Muon is for hidden layers (Jordan et al. 2024).
    """
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    # torch.compile puts a name of its own in front.
    return {f"{name}.weight" for name in linear if name.removeprefix("_orig_mod.").startswith("blocks.")}


def check_optimizer(name: str) -> None:
    """Raises ValueError for a name that timm does not know."""
    known = list_optimizers()
    if name.lower() not in known:
        close = get_close_matches(name, known, n=3)
        raise ValueError(
            f"optimizer {name!r} is not one of timm's; try {' or '.join(close or ['adamw', 'sgd', 'lion'])}"
        )


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """timm's optimizer of that name, in two groups: with weight decay and without; Muon's weights are one more.

    Muon shares `learning_rate` with the AdamW beside it: its orthogonal updates are scaled by 0.2 · √max(out, in), which
    gives them the root mean square of AdamW's (Liu et al. 2025, section 2.2), so that rates which suit AdamW suit it
    too. Momentum is 0.95, as by its authors; the AdamW has the constants of `adamw` (β 0.9, 0.999; ε 1e-8).
    Raises ValueError for a name that timm does not know.
    """
    is_muon = config.optimizer.lower() in MUONS
    no_decay = undecayed(model)
    own = orthogonalised(model) if is_muon else set()
    named = dict(model.named_parameters())

    def group(names: set[str], weight_decay: float, **options: object) -> dict[str, Any]:
        return {"params": [p for name, p in named.items() if name in names], "weight_decay": weight_decay, **options}

    others: dict[str, object] = {"use_fallback": True, "eps": 1e-8} if is_muon else {}
    groups = [
        group(named.keys() - no_decay - own, config.weight_decay, **others),
        group(no_decay, 0.0, **others),
    ]
    if is_muon:
        groups.append(group(own, config.weight_decay, use_muon=True))
    options: dict[str, Any] = {"momentum": 0.95, "betas": (0.9, 0.999)} if is_muon else {}
    if config.optimizer == "adamw":
        options["fused"] = True
    try:
        optimizer: Optimizer = create_optimizer_v2(
            groups, opt=config.optimizer, lr=config.learning_rate, weight_decay=0.0, **options
        )
    except (ValueError, AssertionError) as error:
        raise ValueError(f"optimizer {config.optimizer!r}: {error}; see timm.optim.list_optimizers()") from error
    return optimizer


def build_schedule(optimizer: Optimizer, config: TrainConfig, *, num_steps: int) -> Scheduler:
    """Linear warm-up, then a half cosine or a line to 0; `schedule.step_update(step + 1)` before each step from 0.

    The first step has 1/warm-up of the peak and the last still a little: no step is spent at a rate of 0.
    """
    warmup = round(config.warmup_fraction * num_steps)
    schedule, _ = create_scheduler_v2(
        optimizer,
        **SCHEDULES[config.schedule],
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
