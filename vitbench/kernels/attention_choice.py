"""Which of torch's attention kernels is fastest on a GPU, for one shape? Measured once, and remembered in the cache.

On CPU the kernel goes by a rule (`models.attention`), so that equal runs have equal bits.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any, cast, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from vitbench.device import Device
from vitbench.machine import all_remembered, remembered
from vitbench.models import ViT
from vitbench.models.attention import Attention, Kernel, attention
from vitbench.models.parts import ALL, is_part
from vitbench.text import counted, error_with_type

SWITCH = "VITBENCH_ATTENTION"
"""The environment variable that forces one kernel on a GPU."""
CHOICES: tuple[Kernel, ...] = tuple(kernel for kernel in get_args(Kernel) if kernel != "auto")
MARGIN = 1.05
"""So many times as fast as torch's own choice (`fused`) must a kernel be to be taken."""
WARMUP_CALLS, MIN_ROUNDS, MAX_ROUNDS = 3, 5, 25
SECONDS = 0.5
"""Of all kernels together at one shape, after the warm-up; never fewer than `MIN_ROUNDS` of each."""
TOLERANCE = {"fp32": 1e-3, "bf16": 0.03}
"""By how much of the largest value a kernel's results may differ from products in float32."""
CHECKED_IMAGES = 2
NO_KERNEL = ("No available kernel", "No viable backend")
"""Parts of the messages of errors that torch gives no type."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAME = "attention_kernels"
"""Of the file in the cache."""


@dataclass(frozen=True)
class AttentionShape:
    """`queries` of the tokens attend to all of them; with `bias`, [B, H, M, N] is added to the logits. `backward`: forward and
    backward are timed, else the forward pass alone.
    """

    batch: int
    heads: int
    queries: int
    tokens: int
    head_dim: int
    bias: bool = False
    backward: bool = True

    def __str__(self) -> str:
        parts = [
            counted(self.batch, "image"),
            f"{counted(self.heads, 'head')} of {self.head_dim}",
            counted(self.tokens, "token"),
            *([] if self.queries == self.tokens else [counted(self.queries, "query", "queries")]),
            *(["bias"] if self.bias else []),
            "forward and backward" if self.backward else "forward",
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class MeasuredKernels:
    """`milliseconds` of one call by kernel, median; `reasons` say why the others cannot be taken."""

    milliseconds: dict[str, float]
    reasons: dict[str, str]

    @property
    def fastest(self) -> Kernel:
        """Torch's own choice, unless a kernel is `MARGIN` times as fast."""
        best = min(self.milliseconds, key=lambda kernel: self.milliseconds[kernel], default="fused")
        by_itself = self.milliseconds.get("fused")
        if by_itself is not None and by_itself < MARGIN * self.milliseconds[best]:
            best = "fused"
        return cast(Kernel, best)

    @property
    def ratios(self) -> str:
        """`cudnn 1, flash 1.42, …`: milliseconds over those of the fastest."""
        ordered = sorted(self.milliseconds.items(), key=lambda item: item[1])
        return ", ".join(f"{kernel} {time / ordered[0][1]:.3g}" for kernel, time in ordered)


def forced_kernel() -> Kernel:
    """What `$VITBENCH_ATTENTION` says, by default `auto`. Raises ValueError for what is no kernel."""
    name = os.environ.get(SWITCH) or "auto"
    if name not in get_args(Kernel):
        raise ValueError(f"{SWITCH} {name!r} is no attention kernel; use {', '.join(get_args(Kernel))}")
    return cast(Kernel, name)


def choose_attention(
    model: nn.Module, device: Device, *, precision: str, batch_size: int, backward: bool = True
) -> None:
    """On CUDA, has each attention of a ViT of ours computed by the kernel that is fastest for its shape.

    Left to torch: attention that drops weights out, a user's, timm's, and attention pooling. Raises ValueError where a kernel
    is forced that cannot compute a shape.
    """
    if device.torch_device.type != "cuda":
        return
    forced = forced_kernel()
    for module, shape in _attentions(model, batch_size, backward=backward):
        if forced != "auto":
            if reason := why_not(forced, shape, precision, device):
                raise ValueError(f"{SWITCH} {forced!r} cannot compute {shape} in {precision} here: {reason}; use auto")
            module.kernel = forced
        elif module.dropout == 0 or not backward:
            module.kernel = measured(shape, precision, device).fastest


def with_attention(kernels: str, model: nn.Module) -> str:
    """`torch: attention flash` of `torch`, where a kernel was chosen: what an environment records."""
    return ": ".join(filter(None, (kernels, describe_attention(model))))


def describe_attention(model: nn.Module) -> str:
    """`attention flash`, or `attention flash, last block matmul`; empty where nothing was chosen."""
    kernels = [module.kernel for module in model.modules() if isinstance(module, Attention)]
    if not kernels or set(kernels) == {"auto"}:
        return ""
    first, last = kernels[0], kernels[-1]
    return f"attention {first}" + ("" if last == first else f", last block {last}")


def measured(shape: AttentionShape, precision: str, device: Device) -> MeasuredKernels:
    """From the cache, or measured now."""
    value = remembered(
        NAME,
        f"{_place(device)} | {precision} | {shape}",
        partial(_as_json, shape, precision, device),
        is_valid=_is_valid,
    )
    return MeasuredKernels(**value)


def remembered_choices(device: Device) -> dict[str, MeasuredKernels]:
    """What the cache holds for this device and torch, by precision and shape."""
    place = f"{_place(device)} | "
    return {
        key.removeprefix(place): MeasuredKernels(**value)
        for key, value in all_remembered(NAME).items()
        if key.startswith(place) and _is_valid(value)
    }


def measure_kernels(shape: AttentionShape, precision: str, device: Device) -> MeasuredKernels:
    """Each kernel that computes this shape rightly, timed in turn."""
    reasons = {kernel: why_not(kernel, shape, precision, device) for kernel in CHOICES}
    calls: dict[str, Callable[[], object]] = {}
    for kernel in (kernel for kernel in CHOICES if not reasons[kernel]):
        try:
            calls[kernel] = _call(kernel, shape, DTYPES[precision], device.torch_device)
            for _ in range(WARMUP_CALLS):
                device.time(calls[kernel])
        except Exception as error:  # out of memory above all; the others go on
            reasons[kernel] = error_with_type(error)
            del calls[kernel]
    samples: dict[str, list[float]] = {kernel: [] for kernel in calls}
    for number in range(MAX_ROUNDS if calls else 0):
        if number >= MIN_ROUNDS and sum(map(sum, samples.values())) > SECONDS:
            break
        for name, call in calls.items():
            samples[name].append(device.time(call))
    calls.clear()
    device.release()
    milliseconds = {kernel: 1e3 * median(seconds) for kernel, seconds in samples.items()}
    return MeasuredKernels(milliseconds, {kernel: reason for kernel, reason in reasons.items() if reason})


def why_not(kernel: Kernel, shape: AttentionShape, precision: str, device: Device) -> str:
    """Why a kernel cannot be taken: it does not compute this, or gives other results. Empty where it can."""
    few = replace(shape, batch=min(shape.batch, CHECKED_IMAGES))
    try:
        results = _results(kernel, few, DTYPES[precision], device.torch_device)
        expected = _results("matmul", few, torch.float32, device.torch_device)
    except Exception as error:  # torch has no one type for a kernel that is not there
        is_none = any(text in str(error) for text in NO_KERNEL)
        return "torch has none for this" if is_none else error_with_type(error)
    for result, right in zip(results, expected, strict=True):
        difference = ((result.float() - right).abs().max() / right.abs().max()).item()
        if not difference <= TOLERANCE[precision]:
            return f"its results differ by {difference:.2g} of the largest"
    return ""


def _attentions(model: nn.Module, batch_size: int, *, backward: bool) -> Iterator[tuple[Attention, AttentionShape]]:
    if not isinstance(model, ViT):
        return
    config, last = model.config, len(model.blocks) - 1
    for number, block in enumerate(model.blocks):
        module: Any = block.attention
        if is_part(module) or not isinstance(module, Attention) or module.position is not None:
            continue
        read = model.read if number == last else ALL
        queries = len(range(config.num_tokens)[read])
        shape = AttentionShape(
            batch=batch_size,
            heads=config.num_heads,
            queries=queries,
            tokens=config.num_tokens,
            head_dim=config.head_dim,
            bias=module.relative is not None,
            backward=backward,
        )
        yield module, shape


def _tensors(shape: AttentionShape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """qkv [B, N, 3, H, d], as a linear layer gives them, and the bias; equal numbers in every dtype, but for rounding."""
    generator = torch.Generator().manual_seed(0)
    sizes = (shape.batch, shape.tokens, 3, shape.heads, shape.head_dim)
    qkv = torch.randn(sizes, generator=generator).to(device, dtype)
    bias = None
    if shape.bias:
        of_bias = (shape.batch, shape.heads, shape.queries, shape.tokens)
        bias = torch.randn(of_bias, generator=generator).to(device, dtype).requires_grad_(shape.backward)
    return qkv.requires_grad_(shape.backward), bias


def _call(
    kernel: Kernel, shape: AttentionShape, dtype: torch.dtype, device: torch.device
) -> Callable[[], tuple[Tensor, ...]]:
    """What is timed: it gives the output [B, H, M, d] and, with `backward`, the gradients."""
    qkv, bias = _tensors(shape, dtype, device)
    inputs = [tensor for tensor in (qkv, bias) if tensor is not None]
    ones = torch.ones(shape.batch, shape.heads, shape.queries, shape.head_dim, dtype=dtype, device=device)

    def call() -> tuple[Tensor, ...]:
        with warnings.catch_warnings(), torch.set_grad_enabled(shape.backward):
            warnings.simplefilter("ignore")  # torch explains in warnings why a kernel cannot be used
            q, k, v = rearrange(qkv, "b n three h d -> three b h n d")
            out = attention(q[:, :, : shape.queries], k, v, bias=bias, kernel=kernel)
            return (out, *torch.autograd.grad(out, inputs, ones)) if shape.backward else (out,)

    return call


def _results(kernel: Kernel, shape: AttentionShape, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [tensor.detach() for tensor in _call(kernel, shape, dtype, device)()]


def _place(device: Device) -> str:
    cudnn = torch.backends.cudnn.version() if device.torch_device.type == "cuda" else None
    return f"{device.name} | torch {torch.__version__}" + (f" | cuDNN {cudnn}" if cudnn else "")


def _as_json(shape: AttentionShape, precision: str, device: Device) -> dict[str, Any]:
    result = measure_kernels(shape, precision, device)
    return {"milliseconds": result.milliseconds, "reasons": result.reasons}


def _is_valid(value: object) -> bool:
    """Whether it is what `_as_json` gives, whoever wrote it."""
    if not isinstance(value, dict) or value.keys() != {"milliseconds", "reasons"}:
        return False
    times, reasons = value["milliseconds"], value["reasons"]
    return (
        isinstance(times, dict)
        and isinstance(reasons, dict)
        and set(times) <= set(CHOICES)
        and all(isinstance(time, int | float) and time > 0 for time in times.values())
    )
