"""In which module or phase is a step at any moment? Ranges in the trace tell, forward and backward.

torch numbers the nodes of the backward pass as the forward pass makes them: a node belongs to the module or phase in which
its number was given out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from torch import nn
from torch._C._autograd import _get_sequence_nr
from torch.profiler import record_function
from torch.utils.hooks import RemovableHandle

from vitbench.costs.attribution import ELSEWHERE

STEP = "step"
DATA, FORWARD, LOSS, BACKWARD, CLIP, OPTIMIZER = "data", "forward", "loss", "backward", "clip", "optimizer"
WHOLE = "model"
"""The range of all that a compiled model computes."""
UNDIVIDED = (nn.Identity, nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules without ranges inside: the first does nothing, the others leave their fused path once they have hooks."""


class Ranges:
    """While it is entered, every module that `model` calls is a range of its name in the trace: `blocks.3.attention.qkv`.

    A compiled model is one range, `model`: what the compiler made of it has no modules. What a module computes without
    calling a module within it belongs to its range.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = {WHOLE: model} if hasattr(model, "_orig_mod") else dict(_separable(model))
        self._places = [ELSEWHERE]
        self._sequences: list[int] = []
        self._place_from: list[str] = []
        self._open: list[record_function] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        for name, module in self.modules.items():
            self.keep(module.register_forward_pre_hook(lambda *_, name=name: self.open(name, place=name)))
            self.keep(module.register_forward_hook(lambda *_: self.close(), always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def keep(self, hook: RemovableHandle) -> None:
        """Adds a hook that is removed with the others."""
        self._hooks.callback(hook.remove)

    @contextmanager
    def range(self, name: str, *, place: str = ELSEWHERE) -> Iterator[None]:
        """A range; what no module within it computes belongs to `place`."""
        self.open(name, place=place)
        try:
            yield
        finally:
            self.close()

    def open(self, name: str, *, place: str) -> None:
        self._places.append(place)
        self._note()
        self._open.append(record_function(name))
        self._open[-1].__enter__()

    def close(self) -> None:
        self._open.pop().__exit__(None, None, None)
        self._places.pop()
        self._note()

    def node_place(self, sequence: int) -> str:
        """The module or phase whose forward made the node of this number."""
        i = bisect_right(self._sequences, sequence) - 1
        return self._place_from[i] if i >= 0 else ELSEWHERE

    def _note(self) -> None:
        self._sequences.append(_get_sequence_nr())
        self._place_from.append(self._places[-1])


def _separable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules within `model` by name; one that has several names, by the first."""
    seen: set[nn.Module] = set()

    def within(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            if child not in seen and not isinstance(child, UNDIVIDED):
                seen.add(child)
                yield prefix + name, child
                yield from within(child, f"{prefix}{name}.")

    return within(model, "")
