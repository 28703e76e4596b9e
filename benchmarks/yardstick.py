"""How fast is this machine just now, and is it ours alone?

Fixed work, timed beside every benchmark, in whose units times are compared; and the cores that others kept from us.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vitbench.device import Device

REPEATS = 5


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


@dataclass(frozen=True)
class CpuTimes:
    """Seconds so far: of the clock, of all cores of the machine at work, of this process and its ended children."""

    clock: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> CpuTimes | None:
        """None where the platform does not tell. In ticks of 10 ms, mostly."""
        statistics = Path("/proc/stat")
        if not statistics.exists():
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal: proc(5).
        ticks = [int(word) for word in statistics.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
        own = os.times()
        return cls(
            time.perf_counter(),
            busy=(sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"),
            own=own.user + own.system + own.children_user + own.children_system,
        )


def cores_missing(before: CpuTimes, after: CpuTimes, *, threads: int, cores: int) -> float:
    """How many cores others kept from our `threads`, of a machine of `cores`, on average between two times.

    No yardstick makes that good: threads that wait for each other lose far more than the time without a core.
    """
    others = (after.busy - before.busy - (after.own - before.own)) / (after.clock - before.clock)
    return max(0.0, others - max(0, cores - threads))
