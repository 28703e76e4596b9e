"""What do two independent counters see when a built model runs? fvcore traces it, torch's FlopCounterMode watches it.

Both overlook fused attention (fvcore always, FlopCounterMode on CPU) until given the formulas of `counts`. They follow
the conventions of `macs`, whatever the device, dtype, gradient mode or attention kernel; shapes alone count, so that a
model on torch's `meta` device will do.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from vitbench.config import TimmConfig
from vitbench.costs.attribution import WHOLE, OutermostCalls, as_counts, sum_calls, sum_names
from vitbench.costs.counts import Counts, Shape, attention_products, lstm_products
from vitbench.models import ViT, timm_models
from vitbench.models.parts import ALL

with warnings.catch_warnings():  # fvcore is built on torch.jit, which torch deprecates
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, parameter_count
    from fvcore.nn.jit_handles import conv_flop_count, einsum_flop_jit, generic_activation_jit, get_shape

NORMS = ("batch_norm", "group_norm", "instance_norm", "layer_norm")
"""What fvcore counts beyond our convention, by fvcore's names: up to 5 operations a normalised element."""
PRODUCTS = (
    *("_convolution_mode", "addmm", "bmm", "conv", "einsum", "linear", "lstm", "matmul", "mm"),
    "scaled_dot_product_attention",
)
"""What fvcore counts by our convention. It counts pooling and resizing too, in models of timm, by elements."""

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
"""What a trace has in place of these."""
PADDED_CONVOLUTION = "aten::_convolution_mode"
"""A traced convolution with padding="same" or "valid", which fvcore overlooks."""
FUSED_LSTM = ("mkldnn_rnn_layer", "_cudnn_rnn")
"""Operators that an LSTM becomes on CPU and on CUDA."""


def count_with_fvcore(model: nn.Module, images: Tensor) -> tuple[dict[str, Counts], int]:
    """(counts by part, operations that fvcore adds for norms) of one forward pass of images [B, C, H, W].

    MACs and activations are the whole batch's. The model should be in evaluation mode: fvcore takes more operations for
    batch norms in training.
    """
    operations = fvcore_operations(model, images)
    handles = {
        TRACED_ATTENTION: lambda inputs, _: _traced_attention(inputs).activations,
        "aten::lstm": lambda inputs, _: _traced_lstm(inputs).activations,
        PADDED_CONVOLUTION: generic_activation_jit(),
        "aten::mm": generic_activation_jit(),
    }
    elements = _trace(ActivationCountAnalysis, model, images, handles)
    # Not by set_op_handle(norm, None): fvcore looks for a handler before it looks for what to ignore.
    macs = {name: sum(n for op, n in ops.items() if op in PRODUCTS) for name, ops in operations.items()}
    parameters = parameter_count(model)
    parts = as_counts(
        params=sum_names({name: parameters[name] for name, _ in model.named_parameters()}),
        macs=sum_calls(macs),
        activations=sum_calls({name: sum(ops.values()) for name, ops in elements.items()}),
    )
    return parts, sum(operations[""][norm] for norm in NORMS)


def fvcore_operations(model: nn.Module, images: Tensor) -> dict[str, Counter[str]]:
    """What fvcore calls FLOPs, MACs and operations of norms and others, by outermost module and operator; "" is the whole."""
    handles = {
        TRACED_ATTENTION: lambda inputs, _: _traced_attention(inputs).macs,
        "aten::lstm": lambda inputs, _: _traced_lstm(inputs).macs,
        "aten::einsum": _traced_einsum,
        PADDED_CONVOLUTION: lambda inputs, outputs: conv_flop_count(*map(get_shape, (*inputs[:2], outputs[0]))),
    }
    return _trace(FlopCountAnalysis, model, images, handles)


def count_with_flop_counter(model: nn.Module, images: Tensor) -> dict[str, Counts]:
    """Counts by part of one forward pass of images [B, C, H, W]; MACs and activations are the whole batch's.

    On CUDA, torch pads heads to a multiple of 8 channels for flash attention (not in float32), and counts the padding.
    """
    fused, recurrent = _operators(FUSED_ATTENTION), _operators(FUSED_LSTM)
    unknown = set(fused) - flop_registry.keys()
    flops: dict[Any, Any] = {
        **dict.fromkeys(unknown, lambda q, k, v, *_, **__: 2 * attention_products(q, k, v).macs),
        **dict.fromkeys(recurrent, lambda x, *weights, **_: 2 * lstm_products(x, _lstm_weights(*weights)).macs),
    }
    elements: dict[Any, Any] = {
        **dict.fromkeys(flop_registry, lambda *_, out_shape, **__: prod(out_shape)),
        **dict.fromkeys(fused, lambda q, k, v, *_, **__: attention_products(q, k, v).activations),
        **dict.fromkeys(recurrent, lambda x, *weights, **_: lstm_products(x, _lstm_weights(*weights)).activations),
    }
    counting_flops, counting_elements = _flop_counter(flops, model), _flop_counter(elements, model)
    with _all_tokens(model), counting_flops, counting_elements:
        model(images)
    doubled = sum_calls(_by_module(counting_flops))
    return as_counts(
        params=sum_names({name: parameter.numel() for name, parameter in model.named_parameters()}),
        macs=Counter({part: number // 2 for part, number in doubled.items()}),
        activations=sum_calls(_by_module(counting_elements)),
    )


def count_timm(config: TimmConfig) -> Counts:
    """The whole of a model of timm for one image. Raises ValueError for one that cannot be made or run."""
    model = timm_models.create(config).eval().to("meta")
    images = torch.zeros(1, config.in_channels, *config.image_hw, device="meta")
    with torch.no_grad():
        timm_models.check_takes(model, images, config)
        return sum(count_with_flop_counter(model, images).values(), Counts())


@contextmanager
def _all_tokens(model: nn.Module) -> Iterator[None]:
    """While entered, a ViT's last block computes every token: counts are of the whole architecture."""
    if not isinstance(model, ViT):
        yield
        return
    read, model.read = model.read, ALL
    try:
        yield
    finally:
        model.read = read


def _traced_attention(inputs: list[Any]) -> Counts:
    return attention_products(*map(get_shape, inputs[:3]))


def _traced_lstm(inputs: list[Any]) -> Counts:
    return lstm_products(get_shape(inputs[0]), [get_shape(weight) for weight in inputs[2].node().inputs()])


def _traced_einsum(inputs: list[Any], outputs: list[Any]) -> int:
    """Of two operands; fvcore's own formula rounds to four digits."""
    terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
    shapes = [get_shape(operand) for operand in inputs[1].node().inputs()]
    if len(terms) != 2 or "..." in terms[0] + terms[1]:
        return int(einsum_flop_jit(inputs, outputs))
    sizes = [pair for term, shape in zip(terms, shapes, strict=True) for pair in zip(term, shape, strict=True)]
    return prod(dict(sizes).values())


def _traceable(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """Both unchanged, or copied to the CPU as zeros where torch cannot trace convolutions on `meta`."""
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if not images.is_meta or not convolves or _traces_convolutions_on_meta():
        return model, images
    copied = copy.deepcopy(model).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.zero_()  # buffers may be indices, which uninitialised memory is not
    return copied, torch.zeros_like(images, device="cpu")


def _trace(kind: Any, model: nn.Module, images: Tensor, handles: dict[str, Any]) -> dict[str, Counter[str]]:
    """What fvcore's analysis of this kind counts, by outermost module and operator; "" is the whole."""
    model, images = _traceable(model, images)
    analysis = kind(model, images).set_op_handle(**handles)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    # Not fvcore's sums by module: those of a module that several share hold its calls from within all of them.
    named = {operator: partial(_with_scope, operator, handle) for operator, handle in analysis._op_handles.items()}
    analysis.set_op_handle(**named)
    convolutions = _TraceableConvolutions() if images.is_meta else nullcontext()
    counts: dict[str, Counter[str]] = {"": Counter()}
    with _all_tokens(model), convolutions:
        for name, number in analysis.by_operator().items():
            module, operator = name.split("/")
            for place in {"", module}:
                counts.setdefault(place, Counter())[operator] += number
    return counts


def _with_scope(operator: str, handle: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The counts of a handle of fvcore's, each name with the outermost module before it: `stem/conv`."""
    counts = handle(inputs, outputs)
    if not isinstance(counts, Counter):
        counts = {operator.removeprefix("aten::"): counts}
    _, *modules = outputs[0].node().scopeName().split("/")
    return Counter({f"{modules[0] if modules else ''}/{name}": int(number) for name, number in counts.items()})


class _TraceableConvolutions(TorchFunctionMode):
    """On `meta`, torch's convolution is a Python function, which the tracer does not see; `torch._convolution` is none."""

    def __torch_function__(
        self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in CONVOLUTIONS:
            return _convolve(CONVOLUTIONS[function], args, kwargs or {})
        return function(*args, **(kwargs or {}))


CONVOLUTIONS: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), ("stride", "padding", "dilation", "groups")),
    **dict.fromkeys(
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
        ("stride", "padding", "output_padding", "groups", "dilation"),
    ),
}
"""Names of the arguments after input, weight and bias, in order."""


def _convolve(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What torch's convolution gives that has arguments of these names."""
    options: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}
    options |= dict(zip(("input", "weight", "bias", *names), args, strict=False)) | kwargs
    input, weight, bias, groups = (options[name] for name in ("input", "weight", "bias", "groups"))
    stride, dilation, output_padding = (
        _by_axis(options[name], weight) for name in ("stride", "dilation", "output_padding")
    )
    if isinstance(options["padding"], str):
        return torch._convolution_mode(input, weight, bias, stride, options["padding"], dilation, groups)
    padding, is_transposed = _by_axis(options["padding"], weight), "output_padding" in names
    convolution: Callable[..., Tensor] = torch._convolution
    shape = (stride, padding, dilation, is_transposed, output_padding, groups)
    return convolution(input, weight, bias, *shape, False, False, True, True)  # torch's defaults for cuDNN


def _by_axis(value: int | Shape, weight: Tensor) -> list[int]:
    """One number for each axis of a kernel [O, C, *], where a single one stands for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * (weight.ndim - 2) if len(values) == 1 else values


@cache
def _traces_convolutions_on_meta() -> bool:
    """False of torch 2.6, whose `_convolution` does not know `meta`."""
    pixel = torch.zeros(1, 1, 1, 1, device="meta")
    try:
        _convolve((), (pixel, pixel), {})
    except NotImplementedError:
        return False
    return True


def _operators(names: Sequence[str]) -> list[Any]:
    """The operators of these names that this version of torch has."""
    return [getattr(torch.ops.aten, name) for name in names if hasattr(torch.ops.aten, name)]


def _flop_counter(formulas: dict[Any, Any], model: nn.Module) -> Any:
    """A FlopCounterMode with these formulas beside torch's, which counts by outermost module."""
    counter: Any = FlopCounterMode(display=False, custom_mapping=formulas)
    counter.mod_tracker = OutermostCalls(model)
    return counter


def _by_module(counter: Any) -> dict[str, int]:
    """By name of the outermost module; "" is the whole, whichever module it ran in."""
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items() if name != WHOLE}
    return {**counts, "": counter.get_total_flops()}


def _lstm_weights(first: Any, second: Any, *_: Any) -> list[Shape]:
    """oneDNN is given those with inputs and states one after the other, cuDNN all in a list."""
    return list(first) if isinstance(second, int) else [first, second]
