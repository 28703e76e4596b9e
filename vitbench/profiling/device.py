"""All that depends on the device: time, memory, energy, state, precision, compilation. One interface, CPU and CUDA."""

from __future__ import annotations

import copy
import ctypes
import gc
import json
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar, cast

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from vitbench.config import Compile, Precision
from vitbench.files import write_whole
from vitbench.machine import cache_directory, cpu_name
from vitbench.profiling.cpu_state import State, available_bytes, cpu_state, others_cores
from vitbench.profiling.energy import EnergyCounter, NotAvailableError
from vitbench.profiling.fresh_process import CALLS, peak_bytes, peak_rise, start_peak
from vitbench.profiling.memory import LiveBytes
from vitbench.profiling.nvml import Nvml
from vitbench.profiling.rapl import RaplCounter

# Said of each of torch.compile's guards; how fast they are is measured.
warnings.filterwarnings("ignore", message=r"Guards may run slower on Python 3\.13\.0", category=RuntimeWarning)

SomeModule = TypeVar("SomeModule", bound=nn.Module)

OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",  # asked of the driver past torch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What errors say that are of no type of their own."""
FAST_BF16 = 1.5
"""bf16 counts as fast where its matrix products run at least this many times as fast as fp32's."""
BUSY = 0.1
"""Others are worth a warning from this share of the cores on."""


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


class Device:
    """A CPU as torch sees it. Subclasses differ only in what the hardware needs."""

    raises_out_of_memory = False
    """Whether work that finds no memory raises; on CPU the system may end the process instead."""

    compile_mode: ClassVar[str] = "default"
    """torch.compile's own name for how it compiles here."""
    compiled_shape: ClassVar[str] = ""
    """What this process compiled last."""

    def __init__(self, torch_device: torch.device) -> None:
        self.torch_device = torch_device
        self._live: LiveBytes | None = None
        _keep_freed_memory()

    @property
    def name(self) -> str:
        """`cpu` or `cuda`, a colon, and the hardware's own name."""
        return f"cpu: {cpu_name()}"

    def place(self, model: SomeModule) -> SomeModule:
        """`model` on this device, its weights laid out as the device's operators want them."""
        return model.to(self.torch_device)

    def synchronize(self) -> None:
        """Waits until everything asked of the device is done."""

    def time(self, call: Callable[[], object]) -> float:
        """Seconds that `call` takes, all that it asked of the device included."""
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def peak_memory_of(self, make_work: Callable[[], Callable[[], object]]) -> int | None:
        """Bytes that the work made by `make_work`, which must be picklable, needs at its peak.

        CPU: the rise of the resident size in a fresh process. CUDA: the allocator's peak. None where neither can tell.
        """
        return peak_rise(make_work, threads=torch.get_num_threads())

    def start_memory(self) -> None:
        """Begins a new measurement of peak memory."""
        self._live = None

    def watch_memory(self) -> AbstractContextManager[object]:
        """The context for one training step: on CPU its live tensors are counted; CUDA's allocator counts by itself."""
        self._live = LiveBytes()
        return self._live

    def peak_memory_bytes(self) -> int | None:
        """Bytes since `start_memory`: CPU, of the watched step's tensors; None where no step was watched."""
        return self._live.peak if self._live else None

    def release(self) -> None:
        """Gives back the memory of what is no longer referenced, cycles of references included."""
        gc.collect()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)

    def room_for(self, work: Callable[[], object]) -> float | None:
        """Calls `work`: how many times what it took there was free. None where running out raises, or none of it is told."""
        if platform.system() == "Windows" or (free := available_bytes()) is None:
            work()
            return None
        self.release()  # what is kept for reuse would not be seen to be taken
        before = start_peak()
        work()
        return free / max(peak_bytes() - before, 1)

    def energy_counter(self) -> EnergyCounter:
        """The device's own count of joules. Raises NotAvailableError, with the reason, where the platform does not tell."""
        return RaplCounter()

    def state(self) -> State:
        """Clocks, load, threads at this moment: see `cpu_state` and `Nvml.state`."""
        return {"threads": torch.get_num_threads(), **cpu_state()}

    def state_between(self, before: State, after: State) -> DeviceState:
        """What two states, taken before and after a measurement, say of it."""
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
        """What `auto` means here: bf16 where its matrix products are measured to be fast. Measured once, remembered."""
        if precision != "auto":
            return precision
        return "bf16" if self.bf16_speedup() >= FAST_BF16 else "fp32"

    def bf16_speedup(self) -> float:
        """Rate of bf16 matrix products over that of fp32 (1024³, best of 5 alternating), from memory where measured before."""
        key = f"{self.name} | torch {torch.__version__}"
        try:
            path = cache_directory() / "bf16_speedup.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                known = _read_speedups(path)
                if key not in known:
                    known[key] = self._measure_bf16_speedup()
                    write_whole(path, json.dumps(known, indent=1))
                return known[key]
        except (OSError, ValueError):  # nowhere to remember it
            return self._measure_bf16_speedup()

    def _measure_bf16_speedup(self) -> float:
        best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
        for _ in range(6):
            for dtype in best:
                a = torch.ones(1024, 1024, dtype=dtype, device=self.torch_device)
                a @ a
                self.synchronize()
                start = time.perf_counter()
                a @ a
                self.synchronize()
                best[dtype] = min(best[dtype], time.perf_counter() - start)
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
                return model, False, " ".join(f"runs eagerly: {type(error).__name__}: {error}".split())[:300]
        return cast(nn.Module, torch.compile(model, mode=self.compile_mode)), True, ""


class CudaDevice(Device):
    """A CUDA device. fp32 means fp32: TF32 is off, which torch by itself leaves on for convolutions alone."""

    raises_out_of_memory = True
    compile_mode = "reduce-overhead"  # CUDA graphs: a small model's kernels take less time than their launches

    def __init__(self, torch_device: torch.device) -> None:
        super().__init__(torch_device)
        torch.cuda.set_device(torch_device)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self._allocated_before = 0
        self._nvml: Nvml | None = None

    @property
    def name(self) -> str:
        return f"cuda: {torch.cuda.get_device_name(self.torch_device)}"

    def place(self, model: SomeModule) -> SomeModule:
        # Results follow the weights of convolutions, and tensor cores want channels last.
        placed = model.to(self.torch_device)
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

    def peak_memory_of(self, make_work: Callable[[], Callable[[], object]]) -> int | None:
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

    def watch_memory(self) -> AbstractContextManager[object]:
        return nullcontext()

    def peak_memory_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated(self.torch_device) - self._allocated_before

    def release(self) -> None:
        super().release()
        torch.cuda.empty_cache()

    def room_for(self, work: Callable[[], object]) -> float | None:
        work()
        return None

    def energy_counter(self) -> EnergyCounter:
        nvml = self._open_nvml()
        nvml.joules()  # raises where this GPU keeps no count
        return nvml

    def state(self) -> State:
        try:
            return {**super().state(), **self._open_nvml().state()}
        except NotAvailableError:
            return super().state()

    def state_between(self, before: State, after: State) -> DeviceState:
        state = super().state_between(before, after)
        try:
            self._open_nvml()
        except NotAvailableError as error:
            return replace(state, missing=f"clocks, power and processes of the GPU: {error}")
        others = max(before.get("gpu_other_processes") or 0, after.get("gpu_other_processes") or 0)
        if not others:
            return state
        gpu = f"{others:g} other process{'es' if others > 1 else ''} computed on this GPU meanwhile"
        return replace(state, warning=f"{gpu}; {state.warning}" if state.warning else gpu)

    def _open_nvml(self) -> Nvml:
        if self._nvml is None:
            self._nvml = Nvml(str(torch.cuda.get_device_properties(self.torch_device).uuid))
        return self._nvml


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed, as CUDA's allocator does, instead of giving it back to the system after every step.

    Getting it again costs a page fault for every 4 KiB: up to a tenth of a training step (benchmarks/LOG.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    set_option(trim_threshold, 2**31 - 1)
    set_option(mmap_threshold, 2**25)  # the most that glibc takes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the CPU's allocator, which raises a plain RuntimeError, gave up for want of memory."""
    told_by_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return told_by_type or any(text in str(error) for text in OUT_OF_MEMORY)


def _read_speedups(path: Path) -> dict[str, float]:
    try:
        known: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a torn file is measured anew
        return {}
    return known


def open_device(name: str = "auto") -> Device:
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:1`. Raises ValueError where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return Device(torch.device("cpu"))
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise ValueError(f"device {name!r} is not known; use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is asked for, but torch finds no CUDA device; use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is asked for, but there are {torch.cuda.device_count()}; count from cuda:0")
    return CudaDevice(torch.device("cuda", int(index or 0)))
