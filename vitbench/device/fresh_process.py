"""How much memory does a piece of work take, in a process that has done nothing else?"""

from __future__ import annotations

import multiprocessing
import platform
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

CALLS = 3
"""The first allocates; an optimizer has its state from the second on."""


def peak_rise(make_work: Callable[[], Callable[[], object]], *, threads: int) -> int | None:
    """Bytes by which the resident size of a fresh process, with torch loaded, rises in `make_work` and its work.

    `make_work` must be picklable; the work that it gives is called three times. Errors of either travel. None on Windows,
    where the standard library does not tell the size.
    """
    if platform.system() == "Windows":
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_peak_rise, make_work, threads).result()


def _measure_peak_rise(make_work: Callable[[], Callable[[], object]], threads: int) -> int:
    import torch

    torch.set_num_threads(threads)
    before = start_peak()
    work = make_work()
    for _ in range(CALLS):
        work()
    return peak_bytes() - before


def start_peak() -> int:
    """The resident size from which a rise of `peak_bytes` counts.

    Linux can reset the peak (man 5 proc, clear_refs); elsewhere the peak so far is the start.
    """
    if platform.system() == "Linux":
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The largest resident size of this process since `start_peak`. Not on Windows."""
    if platform.system() == "Linux":
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert kilobytes is not None
        return 1024 * int(kilobytes[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
