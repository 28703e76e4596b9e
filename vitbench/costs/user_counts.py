"""What do a user's parts, and whole models, cost? Counted by torch's FlopCounterMode on the shapes of a built model.

Where an operator has no count it is named: the MACs are then incomplete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vitbench.config import ModelConfig, ModuleConfig
from vitbench.costs.counters import FUSED_ATTENTION, FUSED_LSTM, count_with_flop_counter
from vitbench.costs.counts import Counts
from vitbench.generators import seeded
from vitbench.models import build_model

_WITHOUT_PRODUCTS = re.compile(
    r"_?(safe_|log_)?softmax|(native_)?(layer|batch|group)_norm|_?(fused_)?rms_norm|cudnn_batch_norm|_native_batch_norm_legit.*|native_dropout"
    r"|(a|arg)?(max|min)|mean|sum|nansum|prod|var|var_mean|std|std_mean|norm|linalg_vector_norm|any|all|logsumexp|cum.*"
    r"|cat|stack|_?(to_)?copy|_?reshape_alias|_?unsafe_view|clone|contiguous|lift_fresh.*|detach.*|alias|resize.*|set_"
    r"|(new_)?(empty|zeros|ones|full)(_like|_strided|_permuted)?|scalar_tensor|arange|linspace|logspace|eye|fill|zero|tri[lu](_indices)?"
    r"|rand.*|normal|uniform|bernoulli|exponential|multinomial|_?index.*|_?unsafe_index.*|gather|scatter.*|masked_.*|embedding"
    r"|(slice|select|diagonal|as_strided)_scatter|where|roll|flip|repeat.*|tile|.*pad.*|sort|topk|nonzero|unique.*|bincount|one_hot"
    r"|(_?adaptive_)?(avg|max)_pool.*|max_pool.*|im2col|col2im|pixel_(un)?shuffle|channel_shuffle|split.*|chunk|unbind.*"
    r"|_local_scalar_dense|item|is_.*|sym_.*|_assert.*|bucketize|searchsorted|histc|glu|prelu|rot90|_efficientzerotensor|equal"
)
"""Operators (of aten, without a last `_`) that compute no products of the kinds that are counted, beside element-wise ones and
views: norms, softmax, reductions, pooling, copies, indexing, what makes tensors."""


@dataclass(frozen=True)
class UserCounts:
    """Counts for one image by part, and the operators without a count: where there are any, the MACs are incomplete."""

    parts: dict[str, Counts]
    uncounted: tuple[str, ...]


@lru_cache(maxsize=256)
def count_user_model(config: ModelConfig) -> UserCounts:
    """Of the model as it is built, for one image. Its parts are those of `macs.count_parts`; of a whole model, its children.

    On `meta` tensors, which have shapes alone, or where the user's code wants values, on the CPU. Raises PartError for a model
    that cannot be built or run, and the ValueError of `user_code.lookup`.
    """
    try:
        with torch.device("meta"):
            return _counted(config, "meta")
    except Exception:  # code that looks at values, or makes tensors elsewhere; what is wrong with it, the CPU says
        return _counted(config, "cpu")


def _counted(config: ModelConfig, device: str) -> UserCounts:
    with seeded(0):
        model: Any = build_model(config).eval()
        images = torch.zeros(1, config.in_channels, *config.image_hw, device=device)
        with torch.no_grad():
            model(images)  # refuses, with its reason, what gives no logits
            inner = model.module if isinstance(config, ModuleConfig) else model
            watched = _Operators()
            with watched:
                parts = count_with_flop_counter(inner, images)
    return UserCounts(parts, tuple(sorted(watched.uncounted)))


class _Operators(TorchDispatchMode):
    """While entered, notes the operators that have neither a count nor are known to need none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.uncounted: set[str] = set()

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _has_a_count(function):
            self.uncounted.add(str(function._schema.name).removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


def _has_a_count(function: Any) -> bool:
    schema = getattr(function, "_schema", None)
    if schema is None:  # a higher-order operator, whose inner ones are seen
        return True
    namespace, _, name = schema.name.partition("::")
    if function._overloadpacket in flop_registry or name in (*FUSED_ATTENTION, *FUSED_LSTM):
        return True
    if torch.Tag.pointwise in function.tags or function.is_view:
        return True
    return namespace in ("aten", "prim", "profiler") and _WITHOUT_PRODUCTS.fullmatch(name.rstrip("_")) is not None
