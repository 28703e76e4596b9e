"""Can native operators compute on this machine, and if not, why not?

`native.cpp` is compiled once a machine and loaded once a process.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
from filelock import FileLock
from torch import Tensor

from vitbench.files import replacing, write_whole
from vitbench.machine import cache_directory, cpu_name

SOURCES = sorted(path for pattern in ("*.cpp", "*.h") for path in Path(__file__).parent.glob(pattern))
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-strict-aliasing", "-fopenmp", "-shared", "-fPIC"),
)
NEEDED = "avx512_bf16"
"""What the processor must have, by Linux's name."""
SWITCH = "VITBENCH_KERNELS"
"""The environment variable that chooses operators: `native`, `torch` (then nothing is compiled), or `auto`: by measurement."""

LANES = 16
"""Widths must be multiples of this."""
MOST_THREADS = 32
"""Each thread sums a weight's gradient in separate memory: with more threads, torch's operators need less."""


class Shape(ctypes.Structure):
    """Of self-attention, as attention.h has it: `queries` of the tokens, from `first` on, attend to all of them. The first
    `prefix` tokens are no patches.
    """

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "tokens", "first", "queries", "heads", "head_dim", "prefix")),
        *((name, ctypes.c_float) for name in ("scale", "norm_eps")),
    ]


def describe() -> str:
    """Which operators compute on CPU: `native`, or `torch: ` and the reason."""
    library, reason = state()
    return "native" if library is not None else f"torch: {reason}"


def asked() -> Literal["auto", "native", "torch"]:
    """Whose operators the user asks for. Raises ValueError for a name that is not known."""
    name = os.environ.get(SWITCH, "") or "auto"
    if name not in ("auto", "native", "torch"):
        raise ValueError(f"{SWITCH} {name!r} is not known; set it to native, torch or auto, or unset it")
    return cast(Literal["auto", "native", "torch"], name)


def check_asked() -> None:
    """Raises ValueError where the user asks for operators that are not known, or cannot compute here."""
    if asked() == "native" and state()[0] is None:
        raise ValueError(f"{SWITCH}=native cannot be had: {state()[1]}; unset it, or set it to auto")


def library_name() -> str:
    """Of the compiled library: a hash of its sources, compiler and processor. Empty without one."""
    library, _ = state()
    return "" if library is None else Path(library._name).stem


@lru_cache(maxsize=1)
def state() -> tuple[ctypes.CDLL | None, str]:
    """(the library, why there is none)."""
    if asked() == "torch":
        return None, f"{SWITCH}=torch"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return None, f"native operators are for x86-64 Linux, not for {platform.machine()} {platform.system()}"
    if NEEDED not in _processor_flags().split():
        return None, f"this processor has no {NEEDED}, which native operators are written for"
    try:
        library = ctypes.CDLL(str(_build()))
    except (OSError, subprocess.SubprocessError, RuntimeError, ValueError) as error:
        return None, _first_error(error)
    if not library.is_supported():
        return None, f"the compiler does not know {NEEDED}; g++ 11 or newer does"
    if not _shares_threads(library):
        return None, "the compiler's OpenMP is not the one that torch has loaded"
    return library, ""


def _first_error(error: Exception) -> str:
    """The compiler's first line that is an error, or what was raised."""
    text = getattr(error, "stderr", None) or str(error)
    lines = (text if isinstance(text, str) else text.decode(errors="replace")).splitlines()
    line = next((line for line in lines if "error" in line), lines[0] if lines else type(error).__name__)
    return " ".join(line.split())[:300]


def _shares_threads(library: ctypes.CDLL) -> bool:
    """Whether torch's number of threads is the library's too: another OpenMP would bring threads of its own."""
    number = torch.get_num_threads()
    try:
        torch.set_num_threads(number + 1)
        return bool(library.num_threads() == number + 1)
    finally:
        torch.set_num_threads(number)


def _processor_flags() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")


def _build() -> Path:
    """The compiled library, from the cache where this compiler compiled these sources for such a processor before."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("c++") or ""]
    if not compiler[0]:
        raise OSError("no C++ compiler found (install g++)")
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [path.read_text(encoding="utf-8") for path in SOURCES]
    # -march=native follows the processor's features, and one name stands for several processors.
    identity = "\n".join([*sources, version, *FLAGS, cpu_name(), _processor_flags()])
    library = cache_directory() / "kernels" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if _is_whole(library):
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(library.with_suffix(".lock")):
        if not _is_whole(library):
            (main,) = (path for path in SOURCES if path.suffix == ".cpp")
            with replacing(library) as new:
                command = [*compiler, *FLAGS, str(main), "-o", str(new)]
                subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
                digest = hashlib.sha256(new.read_bytes()).hexdigest()
            write_whole(library.with_suffix(".sha256"), digest)
    return library


def _is_whole(library: Path) -> bool:
    """Whether the library is as it was compiled. Loading a truncated one would end the process by SIGBUS."""
    try:
        return library.with_suffix(".sha256").read_text() == hashlib.sha256(library.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False


def call(name: str, *arguments: Tensor | int | float | Shape | None, flops: int = 0) -> None:
    """Calls the operator `name` with dense tensors by address, None as null, and integers 64 bits wide.

    Raises MemoryError. While torch's profiler runs, it sees an operator `vitbench::name` with these tensors and `flops`.
    """
    library, reason = state()
    assert library is not None, reason
    function = library[f"vitbench_{name}"]
    profiled: AbstractContextManager[object] = nullcontext()
    if torch._C._autograd._profiler_enabled():
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        profiled = torch._C._profiler._RecordFunctionFast(f"vitbench::{name}", tensors, {"flops": flops})
    with profiled:
        if function(*map(_argument, arguments)):
            raise MemoryError(f"out of memory in the native operator {name}")


def _argument(value: Tensor | int | float | Shape | None) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, Shape):
        return ctypes.byref(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None) if value is None else ctypes.c_int64(value)
