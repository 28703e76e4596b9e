"""What updates the weights, and by how much? Optimizers and schedules of timm, with a rule for weight decay."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from timm.optim import Adafactor, create_optimizer_v2, get_optimizer_info, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from vitbench.config import TrainConfig

MUONS = ("muon", "nmuon", "adamuon", "nadamuon")
"""timm's names for Muon and its variants."""

LAMBS = ("lamb", "lambc")
"""timm's names for LAMB and its variant."""

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
    return {f"{name}.weight" for name in linear if _plain(name).startswith("blocks.")}


def _plain(name: str) -> str:
    """Without torch.compile's prefix."""
    return name.removeprefix("_orig_mod.")


def freeze(model: nn.Module, config: TrainConfig) -> None:
    """Freezes what `config.trainable` leaves out: for `attention`, all but the blocks' attention and the head."""
    if config.trainable == "attention":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".attention." in name or name.startswith("head."))


def layer_scales(names: Collection[str], layer_decay: float) -> dict[str, float]:
    """Shares of the learning rate by parameter of a ViT: `layer_decay` to the power of the number of blocks after it.

    Pooling, the last norm and the head come after all blocks; all others that are in no block come before the first.
    """
    depth = 1 + max(int(name.split(".")[1]) for name in names if name.startswith("blocks."))

    def after(name: str) -> int:
        first, _, rest = name.partition(".")
        if first == "blocks":
            return depth - int(rest.partition(".")[0])
        return 0 if first in ("norm", "pool", "head") else depth + 1

    return {name: layer_decay ** after(name) for name in names}


def check_optimizer(config: TrainConfig) -> None:
    """Raises ValueError for an optimizer that timm does not know, and for options that it does not take."""
    name, optimizers = config.optimizer.lower(), list_optimizers()
    if name not in optimizers:
        close = get_close_matches(name, optimizers, n=3)
        raise ValueError(
            f"optimizer {config.optimizer!r} is not one of timm's; try {' or '.join(close or ['adamw', 'sgd', 'lion'])}, or "
            "another of timm.optim.list_optimizers()"
        )
    for objection in config.option_objections(options_taken(name)):
        raise ValueError(objection)


def options_taken(name: str) -> tuple[str, ...]:
    """Which of `betas`, `momentum` and `eps` one of timm's optimizers takes: Adan has three betas, Adafactor one."""
    info = get_optimizer_info(name)
    takes = {
        "betas": info.has_betas and info.num_betas == 2 and info.opt_class is not Adafactor,
        "momentum": info.has_momentum,
        "eps": info.has_eps,
    }
    return tuple(option for option, is_taken in takes.items() if is_taken)


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """timm's optimizer of that name, in two groups, with weight decay and without, and a third for Muon's weights.

    Frozen parameters are in none. With `layer_decay` there are such groups for each layer; schedules use their `lr_scale`.

    Muon shares `learning_rate` with the AdamW beside it: its orthogonal updates are scaled by 0.2 · √max(out, in), which
    gives them the root mean square of AdamW's (Liu et al. 2025, section 2.2), so that AdamW's rates suit Muon too. `momentum`
    is Muon's, by default its authors' 0.95; `betas` and `eps` are the AdamW's, by default those of `adamw` (β 0.9, 0.999;
    ε 1e-8). AdaMuon's second moment has the second of the `betas`.
    Raises ValueError for what `check_optimizer` does.
    """
    check_optimizer(config)
    is_muon = config.optimizer.lower() in MUONS
    no_decay = undecayed(model)
    muon = orthogonalised(model) if is_muon else set()
    named = {_plain(name): p for name, p in model.named_parameters() if p.requires_grad}
    no_decay, muon = ({_plain(name) for name in names} & named.keys() for names in (no_decay, muon))
    scales = dict.fromkeys(named, 1.0) if config.layer_decay is None else layer_scales(named, config.layer_decay)

    def grouped(names: set[str], weight_decay: float, **options: object) -> list[dict[str, Any]]:
        return [
            {
                "params": [p for name, p in named.items() if name in names and scales[name] == scale],
                "weight_decay": weight_decay,
                **({} if config.layer_decay is None else {"lr_scale": scale}),
                **options,
            }
            for scale in sorted({scales[name] for name in names} or {1.0})
        ]

    options = config.optimizer_options
    others: dict[str, object] = {"use_fallback": True, "eps": options.pop("eps", 1e-8)} if is_muon else {}
    groups = grouped(named.keys() - no_decay - muon, config.weight_decay, **others) + grouped(no_decay, 0.0, **others)
    if is_muon:
        groups += grouped(muon, config.weight_decay, use_muon=True)
        options = {"momentum": 0.95, "betas": (0.9, 0.999)} | options
    if config.optimizer == "adamw":
        options["fused"] = True
    if config.optimizer.lower() in LAMBS and (config.clip_norm is None or config.clip_norm > 1):
        options["max_grad_norm"] = None  # by itself it clips to a norm of 1, whatever was asked for
    try:
        optimizer: Optimizer = create_optimizer_v2(
            groups, opt=config.optimizer, lr=config.learning_rate, weight_decay=0.0, **options
        )
    except (ValueError, AssertionError) as error:
        raise ValueError(f"optimizer {config.optimizer!r}: {error}; see timm.optim.list_optimizers()") from error
    return optimizer


def build_schedule(optimizer: Optimizer, config: TrainConfig, *, num_steps: int) -> Scheduler:
    """Linear warm-up, then a half cosine or a line to `min_learning_rate`; `schedule.step_update(step + 1)` before each step
    from 0.

    The first step has 1/warm-up of the peak and the last is still a little above the end: no step is spent at a rate of 0.
    """
    warmup = round(config.warmup_fraction * num_steps)
    schedule, _ = create_scheduler_v2(
        optimizer,
        **SCHEDULES[config.schedule],
        num_epochs=num_steps + 1 - warmup,
        warmup_epochs=warmup,
        warmup_prefix=True,
        warmup_lr=0.0,
        min_lr=config.min_learning_rate,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    assert schedule is not None
    return schedule
