"""How do the processes that compute runs start, end and die? Workers, and the ranks of a run on several devices."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from vitbench.signals import ENDING

SPAWN = multiprocessing.get_context("spawn")
_CAN_MASK = hasattr(signal, "pthread_sigmask")
_PARENT_DECIDES = frozenset(ENDING) - {signal.SIGTERM}
SAVING_SECONDS = 30.0
"""What a process gets, once it is told to end, to finish its step and write a checkpoint; then it is killed."""


def started(target: Callable[..., None], arguments: tuple[Any, ...], *, threads: int) -> SpawnProcess:
    """A new process, which computes with so many threads.

    Ctrl-C and a closing terminal signal the whole process group, and the parent decides: the process starts with these signals
    masked, as its imports take a second, and lifts the mask by `leave_to_parent`.
    """
    # The resource tracker starts first, since its start lifts the mask.
    before_mask = set()
    if _CAN_MASK:
        before_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_DECIDES)
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_DECIDES)
    # Read by OpenMP when torch is imported, so it must be set before the process starts.
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        process = SPAWN.Process(target=target, args=arguments)
        process.start()
    finally:
        if _CAN_MASK:
            signal.pthread_sigmask(signal.SIG_SETMASK, before_mask)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    return process


def end_all(processes: Sequence[SpawnProcess], *, seconds: float = SAVING_SECONDS) -> None:
    """Tells all to end, and kills those that have not within so many seconds."""
    try:
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + seconds
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def how_it_died(exit_code: int | None) -> str:
    """What a record says of a process that ended before its run."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", perhaps out of memory" if name == "SIGKILL" else ""
        return f"worker process ended by {name}{hint}"
    return f"worker process ended with exit status {exit_code}"


def end_after_parent() -> None:
    """Once the parent is gone, ends this process as the parent would have: told to save its state, then killed.

    Both before the claim of its run lapses.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SAVING_SECONDS)
    os._exit(1)


def is_alive(process: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def this_machine() -> str:
    """This boot of this machine, and within it the set of processes that see each other; empty where it is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
