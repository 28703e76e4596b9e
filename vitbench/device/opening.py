"""Which device does a name mean, and does an error say that its memory is used up?"""

from __future__ import annotations

import torch

from vitbench.device.cpu import CpuDevice
from vitbench.device.cuda import CudaDevice
from vitbench.device.device import Device

OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",  # asked of the driver past torch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of the messages of errors that torch gives no type."""


def open_device(name: str = "auto") -> Device:
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:1`. Raises ValueError where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return CpuDevice(torch.device("cpu"))
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise ValueError(f"device {name!r} is not known; use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is asked for, but torch finds no CUDA device; use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is asked for, but there are {torch.cuda.device_count()}; count from cuda:0")
    return CudaDevice(torch.device("cuda", int(index or 0)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the CPU's allocator, which raises a plain RuntimeError, gave up for want of memory."""
    has_the_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return has_the_type or any(text in str(error) for text in OUT_OF_MEMORY)
