"""What does a user's code set for the whole process, and how is it taken back? Imports no torch.

Code that sets torch's default dtype, the number of threads or the working directory would else change what is built, trained
and written after it, of other arms too.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_Setting = tuple[Callable[[], Any], Callable[[Any], object]]
"""What reads it, and what sets it to what was read."""


@contextmanager
def taken_back() -> Iterator[None]:
    """Afterwards, this is as it was before: torch's defaults, modes, threads and generator on the CPU; numpy's errors and
    generator; Python's generator, warnings and working directory.

    Of a library that is imported within, what it starts with.
    """
    before = {name: read() for name, (read, _) in _settings().items()}
    filters = warnings.filters[:]
    try:
        yield
    finally:
        for name, (read, write) in _settings().items():
            value = before.get(name, _AT_FIRST.get(name))
            if value is not None and (name in _ALWAYS or read() != value):
                with suppress(OSError):  # the working directory is gone
                    write(value)
        if warnings.filters != filters:
            warnings.filters[:] = filters  # type: ignore[index]  # typed as read-only
            warnings._filters_mutated()  # type: ignore[attr-defined]  # or what was cached of the filters stays


def move_generators() -> None:
    """Has the generators of Python, numpy and, where it is imported, torch draw once."""
    random.random()
    if (numpy := _imported("numpy")) is not None:
        numpy.random.random()
    if (torch := _imported("torch")) is not None:
        torch.rand(1)


_ALWAYS = ("random", "numpy generator", "torch generator")
"""Written back whatever they are: their states do not compare."""
_AT_FIRST = {"grad": True, "deterministic": (False, False), "matmul": "highest", "anomaly": False}


def _settings() -> dict[str, _Setting]:
    settings: dict[str, _Setting] = {"folder": (_folder, os.chdir), "random": (random.getstate, random.setstate)}
    if (numpy := _imported("numpy")) is not None:
        settings["numpy errors"] = numpy.geterr, lambda value: numpy.seterr(**value)
        settings["numpy generator"] = numpy.random.get_state, numpy.random.set_state
    if (torch := _imported("torch")) is not None:
        settings |= _of_torch(torch)
    return settings


def _folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None


def _imported(name: str) -> Any:
    """The module, where it is imported whole."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _of_torch(torch: Any) -> dict[str, _Setting]:
    return {
        "dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "device": (torch.get_default_device, lambda _: torch.set_default_device(None)),
        "threads": (torch.get_num_threads, torch.set_num_threads),
        "grad": (torch.is_grad_enabled, torch.set_grad_enabled),
        "deterministic": (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        "matmul": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "anomaly": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        "torch generator": (torch.default_generator.get_state, torch.default_generator.set_state),
    }
