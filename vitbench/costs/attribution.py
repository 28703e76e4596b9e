"""Which part of a model does a count belong to?

Parts are those of `macs.count_parts`; in a model with other names, they are its children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from vitbench.costs.counts import Counts

ELSEWHERE = "elsewhere"
"""The part of what a model computes outside of the modules that it calls."""


def part_name(name: str) -> str:
    """The part that a module or parameter of this name belongs to."""
    first, _, rest = name.partition(".")
    if ".relative." in name:
        return "position"
    if first == "blocks":
        return f"blocks.{rest.partition('.')[0]}"
    return {"class_token": "tokens", "registers": "tokens", "pre_norm": "norm"}.get(first, first)


WHOLE = "Global"
"""FlopCounterMode's name for all that runs."""


class OutermostCalls:
    """While entered, `parents` names the module of `model` that runs now, called from within no other of its modules.

    These modules divide what the model computes; its children need not: `head.hidden` runs without a call of `head`.
    For torch's FlopCounterMode, whose tracker fails without gradients where a module is given a parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = {name: module for name, module in model.named_modules() if name and _takes_hooks(module)}
        self._running: list[str] = []
        self._hooks: list[RemovableHandle] = []

    @property
    def parents(self) -> set[str]:
        return {WHOLE, *self._running[:1]}

    def __enter__(self) -> OutermostCalls:
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_pre_hook(partial(self._begin, name)))
            self._hooks.append(module.register_forward_hook(self._end))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _begin(self, name: str, *_: Any) -> None:
        self._running.append(name)

    def _end(self, *_: Any) -> None:
        self._running.pop()


def _takes_hooks(module: nn.Module) -> bool:
    """Not so for what torch.jit made: it counts as its parent's."""
    return not isinstance(module, torch.jit.ScriptModule)


def sum_calls(counts: Mapping[str, int]) -> Counter[str]:
    """Sums by part of numbers by outermost module, where "" has the total."""
    outermost = {name: number for name, number in counts.items() if name}
    return sum_names({**outermost, ELSEWHERE: counts[""] - sum(outermost.values())})


def sum_names(counts: Mapping[str, int]) -> Counter[str]:
    """Sums by part of numbers by name of a module or parameter."""
    total: Counter[str] = Counter()
    for name, number in counts.items():
        total[part_name(name)] += number
    return total


def as_counts(*, params: Counter[str], macs: Counter[str], activations: Counter[str]) -> dict[str, Counts]:
    """One `Counts` a part; empty parts are left out."""
    parts = {part: Counts(params[part], macs[part], activations[part]) for part in [*params, *macs, *activations]}
    return {part: counts for part, counts in parts.items() if counts != Counts()}
