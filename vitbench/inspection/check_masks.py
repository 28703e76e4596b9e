"""Do dropout and drop path leave out in an arm what they leave out in the baseline, or do draws of its own come before?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from vitbench.config import RunConfig
from vitbench.inspection.check_bench import Bench
from vitbench.inspection.checked_arm import CheckedArm
from vitbench.models import Attention
from vitbench.training.loop import seed_dropout

NOISE = (nn.modules.dropout._DropoutNd, DropPath)


def drops(module: nn.Module) -> bool:
    """Whether it leaves something out at random in training."""
    rate = getattr(module, "drop_prob", None) if isinstance(module, DropPath) else getattr(module, "p", None)
    if isinstance(module, NOISE):
        return bool(rate)
    return isinstance(module, Attention) and module.dropout > 0


def check_masks(arm: CheckedArm, config: RunConfig, baseline: RunConfig, bench: Bench) -> None:
    """From which module on, of those that drop in both, an arm with a user's code no longer has the baseline's masks.

    Steps are seeded one by one, so that masks differ within each step, from that module on.
    """
    if not config.user_code or arm.is_baseline:
        return
    with arm.guarded("masks"):
        images, theirs = bench.batches(config, 1)[0][0], bench.batches(baseline, 1)[0][0]
        if images.shape == theirs.shape:
            here, there = _states(config, images, bench), _states(baseline, theirs, bench)
            moved = [name for name in here if name in there and not torch.equal(here[name], there[name])]
            arm.other_masks_from = moved[0] if moved else ""


def _states(config: RunConfig, images: Tensor, bench: Bench) -> dict[str, Tensor]:
    """Of each module that drops, by its name: the generator's state when it is first called in a step, in order of calls."""
    states: dict[str, Tensor] = {}

    def note(name: str, *_: Any) -> None:
        on_cuda = images.device.type == "cuda"
        states.setdefault(name, torch.cuda.get_rng_state(images.device) if on_cuda else torch.get_rng_state())

    model = bench.model(config).train()
    for name, module in model.named_modules():
        if drops(module):
            module.register_forward_pre_hook(partial(note, name))
    seed_dropout(0, images.device)
    with torch.no_grad():
        model(images)
    return states
