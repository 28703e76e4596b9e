"""How does a CPU keep time, count its memory and its energy?"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from vitbench.device.device import Device
from vitbench.device.energy import EnergyCounter
from vitbench.device.fresh_process import peak_bytes, peak_rise, start_peak
from vitbench.device.memory import LiveBytes
from vitbench.device.rapl import RaplCounter
from vitbench.machine import available_bytes, cpu_name


class CpuDevice(Device):
    """A CPU as torch sees it."""

    raises_out_of_memory = False
    compile_mode = "default"

    def __init__(self, torch_device: torch.device) -> None:
        super().__init__(torch_device)
        self._live: LiveBytes | None = None

    @property
    def name(self) -> str:
        return f"cpu: {cpu_name()}"

    def synchronize(self) -> None:
        pass

    def time(self, call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def measure_peak_memory(self, make_work: Callable[[], Callable[[], object]]) -> int | None:
        return peak_rise(make_work, threads=torch.get_num_threads())

    def start_memory(self) -> None:
        self._live = None

    def watch_memory(self) -> AbstractContextManager[object]:
        self._live = LiveBytes()
        return self._live

    def peak_memory_bytes(self) -> int | None:
        return self._live.peak if self._live else None

    def room_for(self, work: Callable[[], object]) -> float | None:
        if platform.system() == "Windows" or (free := available_bytes()) is None:
            return super().room_for(work)
        self.release()  # what is kept for reuse would not be seen to be taken
        before = start_peak()
        work()
        return free / max(peak_bytes() - before, 1)

    def free_bytes(self) -> int | None:
        return available_bytes()

    def energy_counter(self) -> EnergyCounter:
        return RaplCounter()
