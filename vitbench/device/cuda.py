"""How does a CUDA device keep time, count its memory and its energy? By events, its allocator and NVIDIA's library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from vitbench.device.cpu_state import State
from vitbench.device.device import Device, DeviceState, SomeModule
from vitbench.device.energy import EnergyCounter, NotAvailableError
from vitbench.device.fresh_process import CALLS
from vitbench.device.nvml import Nvml
from vitbench.text import counted


class CudaDevice(Device):
    """A CUDA device. fp32 means fp32: TF32 is off, which torch leaves on for convolutions alone."""

    raises_out_of_memory = True
    compile_mode = "reduce-overhead"  # CUDA graphs: a small model's kernels take less time than their launches

    def __init__(self, torch_device: torch.device) -> None:
        super().__init__(torch_device)
        torch.cuda.set_device(torch_device)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self._allocated_before = 0

    @property
    def name(self) -> str:
        return f"cuda: {torch.cuda.get_device_name(self.torch_device)}"

    def place(self, model: SomeModule) -> SomeModule:
        # Results follow the weights of convolutions, and tensor cores want channels last.
        placed = super().place(model)
        convert_conv2d_weight_memory_format(placed, torch.channels_last)
        return placed

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)

    def time(self, call: Callable[[], object]) -> float:
        """By events in the stream, so that the time to launch `call` counts only where the device waits for it."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.synchronize()
        start.record()
        call()
        end.record()
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1e3

    def measure_peak_memory(self, make_work: Callable[[], Callable[[], object]]) -> int | None:
        self.release()
        self.start_memory()
        work = make_work()
        for _ in range(CALLS):
            work()
        self.synchronize()
        return self.peak_memory_bytes()

    def start_memory(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch_device)
        self._allocated_before = torch.cuda.memory_allocated(self.torch_device)

    def peak_memory_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated(self.torch_device) - self._allocated_before

    def free_bytes(self) -> int | None:
        free, _ = torch.cuda.mem_get_info(self.torch_device)
        kept_for_reuse = torch.cuda.memory_reserved(self.torch_device) - torch.cuda.memory_allocated(self.torch_device)
        return free + kept_for_reuse

    def release(self) -> None:
        super().release()
        torch.cuda.empty_cache()

    def energy_counter(self) -> EnergyCounter:
        self._nvml.joules()  # raises where this GPU keeps no count
        return self._nvml

    def state(self) -> State:
        try:
            return {**super().state(), **self._nvml.state()}
        except NotAvailableError:
            return super().state()

    def state_between(self, before: State, after: State) -> DeviceState:
        state = super().state_between(before, after)
        try:
            _ = self._nvml
        except NotAvailableError as error:
            return replace(state, missing=f"clocks, power and processes of the GPU: {error}")
        others = max(before.get("gpu_other_processes") or 0, after.get("gpu_other_processes") or 0)
        if not others:
            return state
        gpu = f"{counted(int(others), 'other process', 'other processes')} computed on this GPU meanwhile"
        return replace(state, warning=f"{gpu}; {state.warning}" if state.warning else gpu)

    @cached_property
    def _nvml(self) -> Nvml:
        return Nvml(str(torch.cuda.get_device_properties(self.torch_device).uuid))
