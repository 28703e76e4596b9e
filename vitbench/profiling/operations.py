"""What does an operator do: which kind of work, how many FLOPs, how many bytes read and written? By its inputs alone."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from functools import partial
from math import prod

from vitbench.costs.counts import attention_products, lstm_products
from vitbench.profiling.events import NATIVE, OPERATOR, Event, Shape

KINDS = {
    "linear": "matrix products of linear layers",
    "attention": "batched matrix products outside of linear layers, and fused attention",
    "attention branch": "self-attention with its projections, in one native operator",
    "MLP branch": "the MLP's products and nonlinearity, in one native operator",
    "convolution": "convolutions",
    "softmax": "softmax and log-softmax",
    "activation": "GELU and other nonlinearities",
    "norm": "layer, group and batch norms",
    "elementwise": "additions, products, masks",
    "copy": "copies, casts, concatenations, fills",
    "reduction": "sums, means, norms of gradients, the loss's choice of a class",
    "optimizer": "all operators of clipping and the optimizer",
    "compiled": "kernels that the compiler fused, and running its graphs",
    "other": "operators of no kind above: views, allocation, the engine of the backward pass",
    "untracked": "no operator ran: Python, and the profiler itself",
    "idle": "CUDA: no kernel ran",
}
"""Every kind of a breakdown's rows."""

COMPILED = "## Call CompiledFxGraph"
"""Names of the ranges that torch.compile puts around its graphs begin like this."""

LINEAR = "aten::linear"
"""It may call batched products, as for the transposed tokens of an MLP-Mixer."""

NAMES = {
    "linear": "mm addmm mv addmv _addmm_activation _scaled_mm mkldnn_linear _linear_pointwise mkldnn_rnn_layer "
    "mkldnn_rnn_layer_backward _cudnn_rnn _cudnn_rnn_backward",
    "attention": "bmm baddbmm",
    "convolution": "convolution convolution_backward",
    "softmax": "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data",
    "activation": "gelu gelu_ gelu_backward silu silu_ silu_backward relu relu_ threshold_backward tanh tanh_ "
    "tanh_backward sigmoid sigmoid_ sigmoid_backward",
    "norm": "native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward "
    "native_batch_norm native_batch_norm_backward _native_batch_norm_legit cudnn_batch_norm cudnn_batch_norm_backward "
    "_batch_norm_with_update batch_norm_backward _fused_rms_norm _fused_rms_norm_backward",
    "elementwise": "add add_ sub sub_ mul mul_ div div_ neg pow pow_ sqrt sqrt_ rsqrt reciprocal exp log sin cos where "
    "clamp clamp_ clamp_min native_dropout native_dropout_backward bernoulli_ uniform_ normal_ random_ masked_fill "
    "masked_fill_ addcmul addcmul_ addcdiv addcdiv_ lerp lerp_ maximum minimum eq ne lt le gt ge logical_not floor "
    "floor_ abs sign",
    "copy": "copy_ cat fill_ zero_ index index_select index_put_ gather scatter_ constant_pad_nd roll embedding",
    "reduction": "sum mean amax amin max min argmax prod var var_mean std linalg_vector_norm norm nll_loss_forward "
    "nll_loss_backward count_nonzero all any",
}
"""Operators that compute, by kind. What they call counts as theirs."""

KIND_OF = {name: kind for kind, names in NAMES.items() for name in names.split()}

NATIVE_KINDS = {
    "self_attention": "attention branch",
    "mlp": "MLP branch",
    "add_norm": "norm",
    "add_backward": "elementwise",
}
"""Kinds of vitbench's operators, by how their names begin."""

PRODUCTS = {
    **dict.fromkeys(("mm", "bmm", "mv", "_scaled_mm", "mkldnn_linear", "_linear_pointwise"), 0),
    **dict.fromkeys(("addmm", "_addmm_activation", "baddbmm", "addmv"), 1),
}
"""Matrix products, and which input is the first factor; the next is the second."""
BY_WEIGHT = ("mkldnn_linear", "_linear_pointwise")
"""Products whose second factor is a weight [n, k]."""

OPERANDS = {"mm": 2, "bmm": 2, "addmm": 3, "baddbmm": 3}
"""How many tensors these products read; one more is the output."""

ITEM_BYTES = {
    **dict.fromkeys(("double", "long", "long int", "long long"), 8),
    **dict.fromkeys(("float", "int"), 4),
    **dict.fromkeys(("c10::BFloat16", "c10::Half", "short"), 2),
    **dict.fromkeys(("bool", "unsigned char", "signed char"), 1),
}
"""By torch's names of types, which are C++'s."""

LIST_ITEM_BYTES = 4
"""Assumed in lists of tensors, such as `cat`'s, whose type the trace does not tell."""


def operator_kind(event: Event) -> str | None:
    """The kind of an operator that computes; None for one that only calls others, and for views."""
    name = _name(event)
    if event.name.startswith(NATIVE):
        return next((kind for beginning, kind in NATIVE_KINDS.items() if name.startswith(beginning)), "other")
    if name.startswith(("_scaled_dot_product_", "_flash_attention", "_efficient_attention")):
        return None if name.startswith("_scaled_dot_product_attention_math") else "attention"
    if name.startswith(("_fused_adam", "_fused_sgd", "_foreach_")):
        return "optimizer"
    return KIND_OF.get(name)


def operator_flops(event: Event) -> int:
    """2 × MACs of matrix products (LSTMs' too), convolutions and attention; 0 for other operators.

    The backward of fused attention counts as twice its forward, although the kernel computes logits anew.
    """
    name = _name(event)
    if event.flops is not None:
        return event.flops
    if name.startswith("_scaled_dot_product_") and operator_kind(event) == "attention":
        return _attention_flops(event, first=1, passes=2) if name.endswith("_backward") else _attention_flops(event)
    formula = FORMULAS.get(name)
    return formula(event) if formula else 0


def operator_bytes(event: Event) -> int:
    """Bytes of inputs and outputs, each once, but for outputs of reductions, which are small.

    0 for an optimizer's operators: the trace tells no shapes of their lists of tensors.
    """
    inputs = [_bytes(event, i) for i in range(len(event.shapes))]
    name, kind = _name(event), operator_kind(event)
    if kind == "optimizer":
        return 0
    if event.name.startswith(NATIVE):
        return sum(inputs)
    if name.endswith("_"):
        is_read = name not in ("copy_", "fill_", "zero_")
        return sum(inputs) + (inputs[0] if is_read and inputs else 0)
    return sum(inputs) + _output_bytes(event, kind, inputs)


def _output_bytes(event: Event, kind: str | None, inputs: list[int]) -> int:
    name = _name(event)
    if sum(map(bool, event.shapes)) > OPERANDS.get(name, len(event.shapes)):  # it was called with its output
        return 0
    if kind in ("linear", "attention", "convolution"):
        return OUTPUTS[name](event) * _item_bytes(event, 0) if name in OUTPUTS else inputs[0] if inputs else 0
    if kind in ("softmax", "activation", "norm", "elementwise"):
        return _broadcast(event) * max((_item_bytes(event, i) for i, n in enumerate(inputs) if n), default=0)
    return inputs[0] if kind == "copy" and inputs else 0


def _name(event: Event) -> str:
    """Without its namespace; empty for events that are no operators."""
    return event.name.rpartition("::")[2] if event.category == OPERATOR else ""


def _shape(event: Event, i: int) -> Shape:
    return event.shapes[i][0] if i < len(event.shapes) and event.shapes[i] else ()


def _item_bytes(event: Event, i: int) -> int:
    kind = event.types[i] if i < len(event.types) else ""
    return LIST_ITEM_BYTES if kind == "TensorList" else ITEM_BYTES.get(kind, 0)


def _bytes(event: Event, i: int) -> int:
    """What an expanded tensor repeats counts once."""
    total = 0
    for j, shape in enumerate(event.shapes[i]):
        strides = event.strides[i][j] if i < len(event.strides) and j < len(event.strides[i]) else shape
        total += prod(size for size, stride in zip(shape, strides, strict=False) if stride != 0)
    return total * _item_bytes(event, i)


def _broadcast(event: Event) -> int:
    """Elements of the shape that the inputs broadcast to."""
    shapes = [shapes[0] for shapes in event.shapes if len(shapes) == 1]
    length = max(map(len, shapes), default=0)
    padded = [(1,) * (length - len(shape)) + shape for shape in shapes]
    return prod(max(sizes) for sizes in zip(*padded, strict=True)) if padded else 0


def _product_elements(event: Event) -> int:
    """Elements of the product of [..., m, k] by [..., k, n], or by a weight [n, k]."""
    name = _name(event)
    a, b = (_shape(event, PRODUCTS[name] + i) for i in range(2))
    if not a or not b:
        return 0
    columns = b[0] if name in BY_WEIGHT else b[-1] if len(b) > 1 else 1
    return prod(a[:-1]) * columns


def _product_flops(event: Event) -> int:
    a = _shape(event, PRODUCTS[_name(event)])
    return 2 * _product_elements(event) * a[-1] if a else 0


def _attention_flops(event: Event, *, first: int = 0, passes: int = 1) -> int:
    """Of q, k and v, which begin at input `first`; the backward pass has twice the products of the forward pass."""
    q, k, v = (_shape(event, first + i) for i in range(3))
    return 2 * passes * attention_products(q, k, v).macs if q and k and v else 0


def _convolution_elements(event: Event) -> int:
    """images [B, C, *], weight [O, C / groups, *], bias, strides, paddings, dilations, transposed → [B, O, *]."""
    images, weight = _shape(event, 0), _shape(event, 1)
    if len(event.values) < 6 or not weight:
        return 0
    strides, paddings, dilations = (_numbers(event.values[i]) for i in (3, 4, 5))
    sizes = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            images[2:], weight[2:], strides, paddings, dilations, strict=True
        )
    ]
    return images[0] * weight[0] * prod(sizes)


def _lstm_flops(event: Event, *, passes: int = 1) -> int:
    """Of inputs, then weights, one after the other or in a list."""
    weights = event.shapes[1] if len(event.shapes[1]) > 1 else [_shape(event, 1), _shape(event, 2)]
    return 2 * passes * lstm_products(_shape(event, 0), weights).macs


def _convolution_flops(event: Event) -> int:
    """In a transposed one, whose weight is [C, O / groups, *], a pixel is multiplied with all weights of its channel."""
    if event.values[6:7] == ("True",):
        return 2 * prod(_shape(event, 0)) * prod(_shape(event, 1)[1:])
    return 2 * _convolution_elements(event) * prod(_shape(event, 1)[1:])


def _convolution_backward_flops(event: Event) -> int:
    """gradient [B, O, *], images, weight, …, which of the gradients of images, weight and bias are wanted."""
    gradient, weight = _shape(event, 0), _shape(event, 2)
    wanted = _numbers(event.values[-1]) if event.values else ()
    products = sum(wanted[:2]) if len(wanted) == 3 else 2
    places = _shape(event, 1) if event.values[7:8] == ("True",) else gradient
    return 2 * products * prod(places) * prod(weight[1:])


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, literal_eval(text)))
    except (ValueError, SyntaxError, TypeError):
        return ()


FORMULAS: dict[str, Callable[[Event], int]] = {
    **dict.fromkeys(PRODUCTS, _product_flops),
    "convolution": _convolution_flops,
    "convolution_backward": _convolution_backward_flops,
    "mkldnn_rnn_layer": _lstm_flops,
    "mkldnn_rnn_layer_backward": partial(_lstm_flops, passes=2),
    "_cudnn_rnn": _lstm_flops,
    "_cudnn_rnn_backward": partial(_lstm_flops, passes=2),
}
"""FLOPs by operator."""
OUTPUTS: dict[str, Callable[[Event], int]] = {
    **dict.fromkeys(PRODUCTS, _product_elements),
    "convolution": _convolution_elements,
}
"""Elements of the output by operator. Of others, such as fused attention, it has as many as the first input."""
