"""How much memory does a training step need, where the allocator keeps no statistics? Live tensors are counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While entered, `peak` is the largest sum of bytes of live tensors that operators have seen.

    They see parameters, gradients, optimizer state and activations, but not scratch memory inside a kernel.
    """

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.peak = 0
        self._live = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if (
                isinstance(leaf, torch.Tensor)
                and (key := (storage := leaf.untyped_storage())._cdata) not in self._sizes
            ):
                self._sizes[key] = storage.nbytes()
                self._live += storage.nbytes()
                self.peak = max(self.peak, self._live)
                weakref.finalize(storage, self._forget, key)
        return result

    def _forget(self, key: int) -> None:
        self._live -= self._sizes.pop(key)
