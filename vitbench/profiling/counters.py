"""What two independent counters see when a built model runs: fvcore, which traces it, and torch's FlopCounterMode.

Both overlook fused attention (fvcore always, FlopCounterMode on CPU) until given the formulas below. They follow the
conventions of `macs`, whatever the device, dtype, gradient mode or attention kernel; shapes alone count, so a model on
torch's `meta` device will do.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from vitbench import timm_models
from vitbench.config import TimmConfig
from vitbench.kernels.native import plain
from vitbench.profiling.counts import Counts
from vitbench.profiling.parts import as_counts, outermost_calls, sum_calls, sum_names

with warnings.catch_warnings():  # fvcore is built on torch.jit, which torch deprecates
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, parameter_count
    from fvcore.nn.jit_handles import generic_activation_jit, get_shape

NORMS = ("batch_norm", "group_norm", "instance_norm", "layer_norm")
"""What fvcore, by its own names, counts beyond our convention: up to 5 operations a normalised element."""
POOLING = ("adaptive_avg_pool2d",)
"""Likewise, in models of timm: an operation for each averaged element."""

FUSED_ATTENTION = (
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_fused_attention_overrideable",
)
"""Operators that scaled_dot_product_attention becomes, in one torch version or another. All begin with q, k, v."""

TRACED_ATTENTION = "aten::scaled_dot_product_attention"
"""What a trace has in their place."""

Shape = Sequence[int]


def attention_macs(q: Shape, k: Shape, v: Shape) -> int:
    """Of q·kᵀ and attention·v. q: [..., N, d], k: [..., M, d], v: [..., M, e]."""
    return prod(q) * k[-2] + prod(q[:-1]) * k[-2] * v[-1]


def attention_activations(q: Shape, k: Shape, v: Shape) -> int:
    """Elements of both products: logits [..., N, M] and outputs [..., N, e]."""
    return prod(q[:-1]) * (k[-2] + v[-1])


def count_with_fvcore(model: nn.Module, images: Tensor) -> tuple[dict[str, Counts], int]:
    """(counts by part, operations that fvcore adds for norms) of one forward pass of images [B, C, H, W].

    MACs and activations are the whole batch's. The model should be in evaluation mode: fvcore takes more operations for
    batch norms in training.
    """
    operations, called = fvcore_operations(model, images)
    handles = {TRACED_ATTENTION: _fvcore_handle(attention_activations), "aten::mm": generic_activation_jit()}
    elements, _ = _trace(ActivationCountAnalysis, model, images, handles)
    # Not by set_op_handle(norm, None): fvcore looks for a handler before it looks for what to ignore.
    macs = {name: sum(n for op, n in ops.items() if op not in (*NORMS, *POOLING)) for name, ops in operations.items()}
    parameters = parameter_count(model)
    parts = as_counts(
        params=sum_names({name: parameters[name] for name, _ in model.named_parameters()}),
        macs=sum_calls(macs, called),
        activations=sum_calls({name: sum(ops.values()) for name, ops in elements.items()}, called),
    )
    return parts, sum(operations[""][norm] for norm in NORMS)


def fvcore_operations(model: nn.Module, images: Tensor) -> tuple[dict[str, Counter[str]], list[str]]:
    """(what fvcore calls FLOPs: MACs, and operations of norms, by module and operator; `outermost_calls`)."""
    return _trace(FlopCountAnalysis, model, images, {TRACED_ATTENTION: _fvcore_handle(attention_macs)})


def count_with_flop_counter(model: nn.Module, images: Tensor) -> dict[str, Counts]:
    """Counts by part of one forward pass of images [B, C, H, W]; MACs and activations are the whole batch's.

    On CUDA, torch pads heads to a multiple of 8 channels for flash attention (not in float32), and counts the padding.
    """
    fused = [getattr(torch.ops.aten, name) for name in FUSED_ATTENTION if hasattr(torch.ops.aten, name)]
    flops = {operator: _flops_of_attention for operator in fused if operator not in flop_registry}
    elements = dict.fromkeys(flop_registry, _elements_put_out) | dict.fromkeys(fused, _elements_of_attention)
    counting_flops = FlopCounterMode(display=False, custom_mapping=flops)
    counting_elements = FlopCounterMode(display=False, custom_mapping=elements)
    with plain(), outermost_calls(model) as called, counting_flops, counting_elements:
        model(images)
    doubled = sum_calls(_by_module(counting_flops, model), called)
    return as_counts(
        params=sum_names({name: parameter.numel() for name, parameter in model.named_parameters()}),
        macs=Counter({part: number // 2 for part, number in doubled.items()}),
        activations=sum_calls(_by_module(counting_elements, model), called),
    )


def count_timm(config: TimmConfig) -> Counts:
    """The whole of a model of timm for one image. Raises ValueError for one that cannot be made or run."""
    model = timm_models.create(config).eval().to("meta")
    images = torch.zeros(1, config.in_channels, *config.image_hw, device="meta")
    try:
        with torch.no_grad():
            return sum(count_with_flop_counter(model, images).values(), Counts())
    except Exception as error:  # whatever the forward pass of any of timm's models raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"timm {config.timm!r} cannot take images of {config.image_hw} pixels: {reason}") from error


def _fvcore_handle(formula: Callable[[Shape, Shape, Shape], int]) -> Callable[[list[Any], list[Any]], int]:
    return lambda inputs, _: formula(*map(get_shape, inputs[:3]))


def _traceable(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """As given, or copied to the CPU where torch cannot trace convolutions on `meta`."""
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if not images.is_meta or not convolves or _traces_convolutions_on_meta():
        return model, images
    return copy.deepcopy(model).to_empty(device="cpu"), torch.zeros_like(images, device="cpu")


def _trace(
    kind: Any, model: nn.Module, images: Tensor, handles: dict[str, Any]
) -> tuple[dict[str, Counter[str]], list[str]]:
    """(what fvcore's analysis of this kind counts, by module and operator; `outermost_calls`)."""
    model, images = _traceable(model, images)
    analysis = kind(model, images).set_op_handle(**handles)
    # By caller: of a module that blocks share, by owner would give all to the first block.
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).ancestor_mode("caller")
    convolutions = _TraceableConvolutions() if images.is_meta else nullcontext()
    with plain(), outermost_calls(model) as called, convolutions:
        return analysis.by_module_and_operator(), called


class _TraceableConvolutions(TorchFunctionMode):
    """On `meta`, torch's convolution is a Python function beneath the tracer, which loses sight of it; this one is not."""

    def __torch_function__(
        self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (_convolve if function is torch.conv2d else function)(*args, **(kwargs or {}))


def _convolve(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: Shape, padding: Shape, dilation: Shape, groups: int
) -> Tensor:
    # The last four arguments are cuDNN's settings, as torch has them by itself.
    return torch._convolution(
        images, weight, bias, stride, padding, dilation, False, (0, 0), groups, False, False, True, True
    )


@cache
def _traces_convolutions_on_meta() -> bool:
    """Not in torch 2.6, whose `_convolution` does not know `meta`."""
    pixel = torch.zeros(1, 1, 1, 1, device="meta")
    try:
        _convolve(pixel, pixel, None, (1, 1), (0, 0), (1, 1), 1)
    except NotImplementedError:
        return False
    return True


def _by_module(counter: FlopCounterMode, model: nn.Module) -> dict[str, int]:
    """Names as in `model`; "" is the whole, whichever module it ran in."""
    root = f"{type(model).__name__}."
    counts = {name.removeprefix(root): sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    return {**counts, "": counter.get_total_flops()}


def _flops_of_attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return 2 * attention_macs(q, k, v)


def _elements_of_attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return attention_activations(q, k, v)


def _elements_put_out(*_: Any, out_shape: Shape, **__: Any) -> int:
    return prod(out_shape)
