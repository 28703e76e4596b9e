"""Is `native.cpp` there to be called: compiled once per machine, loaded once per process; and if not, why not?"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from filelock import FileLock
from torch import Tensor

from vitbench.machine import cache_directory, cpu_name

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math"),
    *("-fopenmp", "-shared", "-fPIC"),
)
SWITCH = "VITBENCH_KERNELS"
"""Set to `torch` in the environment, nothing is compiled and torch's own operators do everything."""

LANES = 16
"""Widths must be multiples of this."""
MOST_THREADS = 32
"""Each thread sums a weight's gradient in memory of its own: with more of them, torch's operators need less."""

_plain: ContextVar[bool] = ContextVar("plain", default=False)


class Shape(ctypes.Structure):
    """Of self-attention, as native.cpp has it: `queries` of the tokens, from `first` on, attend to all of them."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "tokens", "first", "queries", "heads", "head_dim")),
        ("scale", ctypes.c_float),
    ]


@contextmanager
def plain() -> Iterator[None]:
    """While entered, models compute every token of every block by torch's own operators, which can be counted."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    return _plain.get()


def usable(x: Tensor) -> bool:
    """Whether the branches of a block on activations like `x` [..., D] go through native operators, here and now.

    They do for float32 parameters under bf16 autocast on CPU, outside of `plain`, torch.compile and whatever subclasses
    or wraps tensors.
    """
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[-1] % LANES == 0
        and not is_plain()
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and type(x) is Tensor
        and torch.get_num_threads() <= MOST_THREADS
        and state()[0] is not None
    )


def describe() -> str:
    """`native`, or `torch` and the reason: which operators compute on CPU."""
    library, reason = state()
    return "native" if library is not None else f"torch: {reason}"


@lru_cache(maxsize=1)
def state() -> tuple[ctypes.CDLL | None, str]:
    """(the library, why there is none)."""
    if os.environ.get(SWITCH) == "torch":
        return None, f"{SWITCH}=torch"
    if platform.system() != "Linux":
        return None, f"native operators are built on Linux alone, not on {platform.system()}"
    try:
        library = ctypes.CDLL(str(_build()))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        return None, " ".join(detail.split())[:300]
    if not library.is_supported():
        return None, "this processor has no AVX-512 with bf16, which native operators are written for"
    if library.num_threads() != torch.get_num_threads():
        # Another OpenMP than torch's would wait on the same cores with threads of its own.
        return None, "the compiler's OpenMP is not the one that torch has loaded"
    return library, ""


def _build() -> Path:
    """The compiled library, from the cache where this source was compiled by this compiler on this processor before."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise OSError("no C++ compiler found (install g++)")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    identity = "\n".join([SOURCE.read_text(encoding="utf-8"), version, *FLAGS, cpu_name(), sys.platform])
    directory = cache_directory() / "kernels"
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    with FileLock(library.with_suffix(".lock")):
        if not library.exists():
            new = library.with_suffix(f".{os.getpid()}")
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(new)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            new.replace(library)
    return library


def call(name: str, *arguments: Tensor | int | float | Shape | None, flops: int = 0) -> None:
    """Calls the operator `name`: tensors, which must be dense, by address; None as null; integers 64 bits wide.

    While torch's profiler runs, it sees an operator `vitbench::name` with these tensors and `flops`.
    """
    library, reason = state()
    assert library is not None, reason
    function = library[f"vitbench_{name}"]
    if not torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
        function(*map(_argument, arguments))
        return
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    with torch._C._profiler._RecordFunctionFast(f"vitbench::{name}", tensors, {"flops": flops}):
        function(*map(_argument, arguments))


def _argument(value: Tensor | int | float | Shape | None) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, Shape):
        return ctypes.byref(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None) if value is None else ctypes.c_int64(value)
