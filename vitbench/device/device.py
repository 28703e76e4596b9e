"""What can be asked of every device: time, memory, energy, state, precision, compilation.

`CpuDevice` and `CudaDevice` answer it; what is here is the same for both.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import platform
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from vitbench.config import Compile, Precision
from vitbench.device.cpu_state import State, cpu_state, others_cores
from vitbench.device.energy import EnergyCounter
from vitbench.machine import remembered
from vitbench.text import error_with_type

# torch prints it for each of torch.compile's guards; how fast they are is measured.
warnings.filterwarnings("ignore", message=r"Guards may run slower on Python 3\.13\.0", category=RuntimeWarning)

SomeModule = TypeVar("SomeModule", bound=nn.Module)

FAST_BF16 = 1.5
"""bf16 counts as fast where its matrix products run at least this many times as fast as fp32's."""
BUSY = 0.1
"""Other processes are worth a warning from this share of the cores on."""


@dataclass(frozen=True)
class DeviceState:
    """What a device was doing before and after something was measured on it; None is what it does not tell.

    `other_cores` is how many CPU cores worked for other processes meanwhile, `warning` says what else was busy, `missing`
    why some of it is not told.
    """

    before: State
    after: State
    other_cores: float | None
    warning: str
    missing: str


class Device(ABC):
    """A device that torch computes on."""

    raises_out_of_memory: ClassVar[bool]
    """Whether work that finds no memory raises; else the system may end the process."""
    compile_mode: ClassVar[str]
    """torch.compile's name for how it compiles for this device."""
    compiled_shape: ClassVar[str] = ""
    """What this process compiled last."""

    def __init__(self, torch_device: torch.device) -> None:
        self.torch_device = torch_device
        _keep_freed_memory()

    @property
    @abstractmethod
    def name(self) -> str:
        """`cpu` or `cuda`, a colon, and the hardware's name."""

    def place(self, model: SomeModule) -> SomeModule:
        """`model` on this device, its weights laid out as the device's operators want them."""
        return model.to(self.torch_device)

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until everything asked of the device is done."""

    @abstractmethod
    def time(self, call: Callable[[], object]) -> float:
        """Seconds that `call` takes, all that it asked of the device included."""

    @abstractmethod
    def measure_peak_memory(self, make_work: Callable[[], Callable[[], object]]) -> int | None:
        """Bytes that the work made by `make_work`, which must be picklable, needs at its peak.

        CPU: the rise of the resident size in a fresh process. CUDA: the allocator's peak. None where neither can tell.
        """

    @abstractmethod
    def start_memory(self) -> None:
        """Begins a new measurement of peak memory."""

    def watch_memory(self) -> AbstractContextManager[object]:
        """The context for one training step: on CPU its live tensors are counted; CUDA's allocator counts by itself."""
        return nullcontext()

    @abstractmethod
    def peak_memory_bytes(self) -> int | None:
        """Bytes since `start_memory`: CPU, of the watched step's tensors; None where no step was watched."""

    def room_for(self, work: Callable[[], object]) -> float | None:
        """Calls `work`: how many times what it took was free. None where running out raises, or the system does not tell."""
        work()
        return None

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Memory that work on the device may still take; None where the platform does not tell."""

    @abstractmethod
    def energy_counter(self) -> EnergyCounter:
        """The device's count of joules. Raises NotAvailableError, with the reason, where the platform does not tell."""

    def release(self) -> None:
        """Gives back the memory of what is no longer referenced, cycles of references included."""
        gc.collect()
        if _is_glibc():
            ctypes.CDLL(None).malloc_trim(0)

    def state(self) -> State:
        """Clocks, load, threads at this moment: see `cpu_state` and `Nvml.state`."""
        return {"threads": torch.get_num_threads(), **cpu_state()}

    def state_between(self, before: State, after: State) -> DeviceState:
        """What two states, taken before and after a measurement, tell about it."""
        others, cores = others_cores(before, after), after["cores"]
        busy = others is not None and cores is not None and others > BUSY * cores
        warning = f"other processes kept {others:.1f} of {cores:g} cores busy meanwhile" if busy else ""
        return DeviceState(before, after, others, warning, missing="")

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """The context in which forward passes run at `fp32` or `bf16`."""
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16)

    def resolve_precision(self, precision: Precision) -> Literal["fp32", "bf16"]:
        """What `auto` means on this device: bf16 where its matrix products are measured to be fast."""
        if precision != "auto":
            return precision
        return "bf16" if self.bf16_speedup() >= FAST_BF16 else "fp32"

    def bf16_speedup(self) -> float:
        """Rate of bf16 matrix products over that of fp32: measured once and remembered in the cache, where it can be."""
        key = f"{self.name} | torch {torch.__version__}"
        speedup: float = remembered("bf16_speedup", key, self._measure_bf16_speedup, is_valid=_is_rate)
        return speedup

    def _measure_bf16_speedup(self) -> float:
        """From products of 1024³, the best of 6 of each, in turn."""
        dtypes = (torch.float32, torch.bfloat16)
        matrices = {dtype: torch.ones(1024, 1024, dtype=dtype, device=self.torch_device) for dtype in dtypes}
        best = dict.fromkeys(dtypes, float("inf"))
        for _ in range(6):
            for dtype, a in matrices.items():
                a @ a
                best[dtype] = min(best[dtype], self.time(partial(torch.mm, a, a)))
        return round(best[torch.float32] / best[torch.bfloat16], 2)

    def compile(self, model: nn.Module, mode: Compile, *, example: Tensor) -> tuple[nn.Module, bool, str]:
        """(the model to call, whether it is compiled, why not). `auto` tries a copy on `example` [B, C, H, W] first;
        with `on`, what cannot be compiled raises in the first step.
        """
        if mode == "off":
            return model, False, ""
        # A worker outlives its runs, and all models share one forward: without a reset the limit of recompilations is
        # used up after a few, and torch then runs eagerly behind a warning. Runs of equal shape share what is compiled.
        shape = f"{model!r} {getattr(model, 'config', '')!r} {tuple(example.shape)}"
        if shape != self.compiled_shape:
            torch._dynamo.reset()
        Device.compiled_shape = shape
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        if mode == "auto":
            try:
                torch.compile(copy.deepcopy(model), mode=self.compile_mode)(example).sum().backward()
            except Exception as error:  # whatever the compiler raises, the run goes on eagerly and says so
                return model, False, f"runs eagerly: {error_with_type(error)}"
        return cast(nn.Module, torch.compile(model, mode=self.compile_mode)), True, ""


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed, as CUDA's allocator does, instead of giving it back to the system after every step.

    Getting it again costs a page fault for every 4 KiB: up to a tenth of a training step (benchmarks/LOG.md).
    """
    if _is_glibc():
        set_option = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        set_option(trim_threshold, 2**31 - 1)
        set_option(mmap_threshold, 2**25)  # the most that glibc takes
