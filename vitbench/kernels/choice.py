"""Whose operators compute a model of this width on this many threads: native ones, or torch's?

Measured once a machine and kept in the cache: native operators are made for AVX-512, and a processor with matrix units may run
torch's faster. A process keeps what it was told or has found, so that a model does not change operators between two steps.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, TypedDict

import torch
from torch import Tensor

from vitbench.config import ViTConfig
from vitbench.kernels import native, operators
from vitbench.machine import cpu_name, remembered
from vitbench.models.blocks import Block
from vitbench.text import counted

Operators = Literal["native", "torch"]

CLEARLY_FASTER = 1.1
"""Torch's operators are taken where they are so many times as fast, or more, in three quarters of the rounds at least."""
FEWEST_ROUNDS = 3
"""With fewer, on a machine that has no time, native operators stay."""
MOST_ROUNDS = 24
SECONDS = 0.8
"""After which no further round begins: of one thread's own time, of several threads' by the clock."""
LONGEST = 4.0
"""By the clock in any case, where other processes share the cores."""
FLOPS_OF_A_CALL = 4e9
"""For each thread, about: 20 ms."""
FEWEST_IMAGES, MOST_IMAGES = 3, 64
"""For each thread: with fewer, packing weights takes native operators longer than it does in a training step."""
IMAGE_SIZE, PATCH_SIZE = 32, 4
"""Of the images that the measured block is for: 65 tokens."""
TORCH_IS_FASTER = "native: torch's are faster here"
"""What `describe_use` says of torch's operators where native ones are to be had."""


@dataclass(frozen=True)
class Measured:
    """One block's forward and backward pass in bf16, native against torch."""

    operators: Operators
    native_over_torch: float
    """How many times as fast native operators are: the median of rounds."""
    rounds: int


@dataclass(frozen=True)
class Choice:
    """Whose operators compute, and why."""

    operators: Operators
    why: str


class RecordedUse(TypedDict):
    """The fields of `Environment` that say which operators compute, and why."""

    kernels: str
    kernels_note: str
    kernel_library: str


_settled: dict[tuple[int, int], Choice] = {}
"""By (width, threads): of this process."""


def usable(x: Tensor, *parameters: Tensor) -> bool:
    """Whether native operators compute with activations like `x` [..., D] and these parameters, here and now.

    They can under bf16 autocast on CPU, for dense float32 parameters, outside of torch.compile and whatever subclasses,
    wraps or traces tensors. They do where they are chosen. `blocks` says what each part of a model needs besides.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and all(p.dtype == torch.float32 and p.is_contiguous() for p in parameters)
        and torch._C._get_tracing_state() is None
        and torch._C._functorch.peek_interpreter_stack() is None
        and type(x) is Tensor
        and not _why_not(x.shape[-1])
        and native.state()[0] is not None
        and chosen(x.shape[-1]).operators == "native"
    )


def _why_not(width: int) -> str:
    """Why a model of this width, on this many threads, cannot use native operators; empty where it can."""
    if width % native.LANES:
        return f"width {width} is not a multiple of {native.LANES}"
    if torch.get_num_threads() > native.MOST_THREADS:
        return f"{counted(torch.get_num_threads(), 'thread')} are more than {native.MOST_THREADS}"
    return ""


def can_be_native(width: int) -> bool:
    """Whether native operators can compute a model of this width on this machine, on as many threads as now."""
    return not _why_not(width) and native.state()[0] is not None


def describe_use(device_type: str, *, precision: str, compiled: bool, width: int | None) -> str:
    """Which operators compute a model on such a device, at `fp32` or `bf16`, eagerly or compiled, as `native.describe` has it.

    `width` is that of the model's blocks. None, a model of timm: it computes with torch's operators on any machine, so
    `native: not in this model` lets it stand beside models that are computed natively. So does `TORCH_IS_FASTER`.
    """
    if device_type != "cpu" or precision != "bf16" or compiled:
        return "torch"
    if native.describe() != "native":
        return native.describe()
    if width is None:
        return "native: not in this model"
    if reason := _why_not(width):
        return f"torch: {reason}"
    return "native" if chosen(width).operators == "native" else TORCH_IS_FASTER


def recorded_use(device_type: str, *, precision: str, compiled: bool, width: int | None) -> RecordedUse:
    """Which operators compute, and why, as records have it. Arguments are those of `describe_use`."""
    kernels = describe_use(device_type, precision=precision, compiled=compiled, width=width)
    could_be_native = width is not None and kernels in ("native", TORCH_IS_FASTER)
    return {
        "kernels": kernels,
        "kernels_note": chosen(width).why if width is not None and could_be_native else "",
        "kernel_library": native.library_name() if kernels == "native" else "",
    }


def chosen(width: int) -> Choice:
    """For a model of this width on as many threads as this process computes with now, where native operators can compute."""
    if (asked := native.asked()) != "auto":
        return Choice(asked, f"{native.SWITCH}={asked}")
    key = width, torch.get_num_threads()
    if key not in _settled:
        _settled[key] = _choose(*key)
    return _settled[key]


def settle(width: int, operators: Operators, why: str) -> None:
    """Takes these operators from now on, at this width and on as many threads as now, unless the user asks for others."""
    _settled[width, torch.get_num_threads()] = Choice(operators, why)


def _choose(width: int, threads: int) -> Choice:
    measured = measured_once(width, threads)
    on = f"at width {width} on {threads} thread{'s' if threads > 1 else ''}"
    return Choice(measured.operators, f"measured: native {measured.native_over_torch:.2f} × as fast as torch's {on}")


def measured_once(width: int, threads: int) -> Measured:
    """From the cache, where this library and this torch were measured on such a processor; else measured, and kept."""
    key = f"{cpu_name()} | {native.library_name()} | torch {torch.__version__} | width {width} | threads {threads}"
    kept = remembered(
        "kernel_choices",
        key,
        lambda: asdict(measure(width, threads)),
        is_valid=lambda value: _valid(value) is not None,
    )
    return Measured(**kept)


def _valid(kept: object) -> Measured | None:
    """What was kept; None for what `measure` would not have given."""
    try:
        measured = Measured(**kept)  # type: ignore[arg-type]  # whatever it is, it is checked
        is_whole = measured.operators in ("native", "torch") and type(measured.rounds) is int and measured.rounds > 0
        return measured if is_whole and math.isfinite(r := measured.native_over_torch) and r > 0 else None
    except TypeError:
        return None


def measure(width: int, threads: int) -> Measured:
    """Times both in turn. In a thread of its own: whatever modes of torch the caller is in do not reach it."""
    results: list[Measured | BaseException] = []

    def work() -> None:
        try:
            torch.set_num_threads(threads)
            results.append(judged(_ratios(width, threads)))
        except Exception as error:  # goes on in the thread that waits
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    return result


def judged(ratios: list[float]) -> Measured:
    """`ratios`: torch's seconds over those of native operators, of each round. The first warms up, where there are enough."""
    in_order = sorted(ratios[1:] if len(ratios) > FEWEST_ROUNDS else ratios)
    upper_quartile, median = in_order[-1 - len(in_order) // 4], in_order[len(in_order) // 2]
    is_clear = len(in_order) >= FEWEST_ROUNDS and upper_quartile * CLEARLY_FASTER <= 1
    return Measured("torch" if is_clear else "native", round(median, 3), len(in_order))


def _ratios(width: int, threads: int) -> list[float]:
    """Torch's seconds over those of native operators, round by round."""
    passes = _passes(width, threads)
    # A thread's own time is not that of others which share its core.
    clock = time.thread_time if threads == 1 else time.perf_counter
    spent, end, ratios = 0.0, time.perf_counter() + LONGEST, list[float]()
    while not ratios or (len(ratios) < MOST_ROUNDS and spent < SECONDS and time.perf_counter() < end):
        seconds = []
        for call in passes:
            start = clock()
            call()
            seconds.append(clock() - start)
        spent += sum(seconds)
        ratios.append(seconds[1] / max(seconds[0], 1e-9))
    return ratios


def _passes(width: int, threads: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A block's forward and backward pass with native operators, and with torch's."""
    head_dim = next(d for d in (64, 32, 16) if width % d == 0)
    config = ViTConfig(image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, width=width, num_heads=width // head_dim)
    with torch.random.fork_rng(devices=[]):
        block = Block(config, drop_path=0.0)
    generator = torch.Generator().manual_seed(0)
    flops = 6 * config.num_tokens * sum(p.numel() for p in block.parameters())
    images = threads * min(max(FEWEST_IMAGES, round(FLOPS_OF_A_CALL / flops)), MOST_IMAGES)
    x = torch.randn(images, config.num_tokens, width, generator=generator, requires_grad=True)
    ones = torch.ones_like(x)

    def call(forward: Callable[[Tensor], Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            out = forward(x)
        torch.autograd.grad(out, [x, *block.parameters()], ones.to(out.dtype))

    return partial(call, partial(_native_block, block)), partial(call, block)


def _native_block(block: Block, x: Tensor) -> Tensor:
    """What `blocks.NativeBlock` computes."""
    attention, mlp = block.attention, block.mlp
    norm1, norm2 = ((norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2))
    weights = attention.qkv.weight, attention.qkv.bias, attention.proj.weight
    attended = operators.self_attention(operators.norm(x, *norm1), *weights, num_heads=attention.num_heads)
    x, normed = operators.add_norm(x, attended, attention.proj.bias, *norm2)
    hidden = operators.mlp(normed, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.activation)
    return operators.add(x, hidden, mlp.fc2.bias)
