"""How fast is this machine just now, and do other processes use it?

Fixed work, timed beside every benchmark, in whose units times are compared; and the cores that others kept from it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from vitbench.device import Device
from vitbench.device.cpu_state import State, others_cores

REPEATS = 5
SHORTEST = 0.2
"""Seconds between two states: twenty ticks."""


class Yardstick:
    """A matrix product and a copy on the device, and some Python on the host: what the benchmarks are made of.

    Its sizes belong to `description`: times in units of another yardstick are never compared.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        on_cpu = device.torch_device.type == "cpu"
        side, mebibytes = (512, 64) if on_cpu else (4096, 512)
        a = torch.ones(side, side, device=device.torch_device)
        source = torch.ones(mebibytes * 2**18, device=device.torch_device)
        self.calls: dict[str, Callable[[], object]] = {
            "matmul": partial(torch.mm, a, a, out=torch.empty_like(a)),
            "copy": partial(torch.empty_like(source).copy_, source),
            "python": partial(sum_of_squares, 20_000),
        }
        self.description = f"fp32 product of {side}³, copy of {mebibytes} MiB, 20,000 squares in Python"
        self.measure()  # what is done for the first time takes longer

    def measure(self) -> dict[str, list[float]]:
        """Seconds of each part, `REPEATS` times in turn."""
        seconds: dict[str, list[float]] = {name: [] for name in self.calls}
        for _ in range(REPEATS):
            for name, call in self.calls.items():
                seconds[name].append(self.device.time(call))
        return seconds


def sum_of_squares(n: int) -> int:
    return sum(i * i for i in range(n))


def cores_missing(before: State, after: State, *, threads: int) -> float | None:
    """How many cores others kept from our `threads` between two states of the CPU, on average; None where it does not tell.

    A yardstick cannot make up for that: threads that wait for each other lose far more than the time without a core.
    """
    others, cores = others_cores(before, after, shortest=SHORTEST), after["cores"]
    return None if others is None or cores is None else max(0.0, others - max(0.0, cores - threads))
