"""What can this device do at best? Its rate of matrix products in each dtype, and its copy bandwidth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from vitbench.device import Device
from vitbench.profiling.timing import time_in_turn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU_SIDES, GPU_SIDES = (512, 1024, 2048), (2048, 4096, 8192)
"""Of square matrices. The fastest size counts; which that is depends on the hardware."""
COPIED_BYTES = 2**28
"""More than any cache holds."""


@dataclass(frozen=True)
class Ceilings:
    """`flops_per_second` by precision; `bytes_per_second` read and written, each byte once either way."""

    flops_per_second: dict[str, float]
    bytes_per_second: float


def measure_ceilings(device: Device, *, max_seconds: float = 6.0) -> Ceilings:
    """The best rate of A·B over square sizes, and of copying, all timed in turn. 1 MAC = 2 FLOPs."""
    sides = CPU_SIDES if device.torch_device.type == "cpu" else GPU_SIDES
    calls: dict[str, Callable[[], object]] = {}
    work: dict[str, int] = {}
    for precision, dtype in DTYPES.items():
        for side in sides:
            a = torch.ones(side, side, dtype=dtype, device=device.torch_device)
            calls[f"{precision} {side}"] = partial(torch.mm, a, a, out=torch.empty_like(a))
            work[f"{precision} {side}"] = 2 * side**3
    source = torch.ones(COPIED_BYTES // 4, device=device.torch_device)
    target = torch.empty_like(source)
    calls["copy"] = partial(target.copy_, source)
    timings = time_in_turn(calls, device=device, max_seconds=max_seconds, relative_width=0.05)
    rates = {name: flops / timings[name].median for name, flops in work.items()}
    best = {p: max(rate for name, rate in rates.items() if name.startswith(p)) for p in DTYPES}
    return Ceilings(best, 2 * COPIED_BYTES / timings["copy"].median)
