"""Which part of a model does each thing that a counter counted belong to?

Parts are those of `macs.count_parts`; of a model with other names, its children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from vitbench.profiling.counts import Counts

ELSEWHERE = "elsewhere"
"""The part of what a model computes outside of all the modules that it calls."""


def part_of(name: str) -> str:
    """The part that a module or parameter of this name belongs to."""
    first, _, rest = name.partition(".")
    if ".relative." in name:
        return "position"
    if first == "blocks":
        return f"blocks.{rest.partition('.')[0]}"
    return {"class_token": "tokens", "registers": "tokens", "pre_norm": "norm"}.get(first, first)


@contextmanager
def outermost_calls(model: nn.Module) -> Iterator[list[str]]:
    """While entered, notes the names of modules that `model` calls other than from within another of its modules.

    These divide what it computes; its children need not: `head.hidden` runs without `head` being called around it.
    """
    called: list[str] = []
    running: list[str] = []

    def enter(name: str, *_: Any) -> None:
        if not running and name not in called:
            called.append(name)
        running.append(name)

    def leave(*_: Any) -> None:
        running.pop()

    modules = {name: module for name, module in model.named_modules() if name}
    hooks = [module.register_forward_pre_hook(partial(enter, name)) for name, module in modules.items()]
    hooks += [module.register_forward_hook(leave) for module in modules.values()]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def sum_calls(counts: Mapping[str, int], called: Iterable[str]) -> Counter[str]:
    """Sums by part. `counts` has every module's, nested ones in it, and under "" the whole; `called`: `outermost_calls`."""
    outermost = {name: counts.get(name, 0) for name in called}
    return sum_names({**outermost, ELSEWHERE: counts.get("", 0) - sum(outermost.values())})


def sum_names(counts: Mapping[str, int]) -> Counter[str]:
    """Sums by part of what is counted once, under the name of a module or parameter."""
    total: Counter[str] = Counter()
    for name, number in counts.items():
        total[part_of(name)] += number
    return total


def as_counts(*, params: Counter[str], macs: Counter[str], activations: Counter[str]) -> dict[str, Counts]:
    """One `Counts` a part; empty parts are left out."""
    parts = {part: Counts(params[part], macs[part], activations[part]) for part in [*params, *macs, *activations]}
    return {part: counts for part, counts in parts.items() if counts != Counts()}
