"""What is the processor doing, and how much of it for other processes? Read before and after something is measured."""

from __future__ import annotations

import os
import re
import statistics
import time
from pathlib import Path

from vitbench.machine import cpu_cores

State = dict[str, float | None]
SHORTEST = 1.0
"""Seconds between two readings. In less, ticks of 10 ms are too coarse to tell the share of others."""


def cpu_state(root: Path = Path("/")) -> State:
    """The state at this moment; None is what the platform does not tell.

    `cpu_mhz` is the median of the cores that this process may use, `busy_core_seconds` what they have worked for all since the
    machine started (with the time that a hypervisor gave to others), `own_core_seconds` what this process has worked.
    """
    times = os.times()
    return {
        "cpu_mhz": _megahertz(root),
        "cores": cpu_cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "busy_core_seconds": _busy_core_seconds(root / "proc" / "stat"),
        "own_core_seconds": times.user + times.system + times.children_user + times.children_system,
        "seconds": time.monotonic(),
    }


def others_cores(before: State, after: State, *, shortest: float = SHORTEST) -> float | None:
    """How many cores worked for other processes between two states, on average.

    None where that cannot be told: the platform is silent, or less than `shortest` seconds lie between them.
    """
    seconds, busy, used = (_rise(before, after, name) for name in ("seconds", "busy_core_seconds", "own_core_seconds"))
    if seconds is None or busy is None or used is None or seconds < shortest:
        return None
    return max(0.0, (busy - used) / seconds)


def _rise(before: State, after: State, name: str) -> float | None:
    first, last = before[name], after[name]
    return None if first is None or last is None else last - first


def _megahertz(root: Path) -> float | None:
    usable = _usable_cores()
    try:
        files = root / "sys" / "devices" / "system" / "cpu"
        frequencies = [int((files / f"cpu{i}" / "cpufreq" / "scaling_cur_freq").read_text()) / 1e3 for i in usable]
    except (OSError, ValueError):
        try:
            lines = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", (root / "proc" / "cpuinfo").read_text(), re.MULTILINE)
        except OSError:
            return None
        frequencies = [float(line) for line in lines]
        if usable and usable[-1] < len(frequencies):
            frequencies = [frequencies[i] for i in usable]
    return statistics.median(frequencies) if frequencies else None


def _busy_core_seconds(file: Path) -> float | None:
    """man 5 proc_stat: user, nice, system, idle, iowait, irq, softirq, steal; guests are within user and nice."""
    usable = set(_usable_cores())
    try:
        lines = re.findall(r"^cpu(\d+) (.*)$", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    ticks = []
    for core, values in lines:
        if int(core) in usable:
            user, nice, system, _, _, irq, softirq, steal = map(int, values.split()[:8])
            ticks.append(user + nice + system + irq + softirq + steal)
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _usable_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
