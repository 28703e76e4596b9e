"""What is this machine: its processor, its memory, its folder for caches, what was measured on it before? Imports no torch."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vitbench.files import expanded, write_whole


def cpu_name() -> str:
    """The processor's name."""
    if sys.platform == "darwin":
        brand = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return brand.stdout.strip() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()]
        facts = {name.strip(): value.strip() for name, _, value in lines}
        # ARM has no name, only numbers for designer and core.
        arm = " ".join(facts[name] for name in ("CPU implementer", "CPU part", "CPU variant") if name in facts)
        return facts.get("model name") or f"{platform.machine()} {arm}".strip()
    return platform.processor() or platform.machine()


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory; 0 where the platform does not tell."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that is free before the system ends a process for want of it; None where the platform does not tell.

    Linux's MemAvailable, or what is left of the container's limit (control group, version 2) where that is less.
    """
    try:
        kilobytes = re.search(r"MemAvailable:\s+(\d+) kB", (root / "proc" / "meminfo").read_text())
    except OSError:
        return None
    if kilobytes is None:
        return None
    available, group = 1024 * int(kilobytes[1]), root / "sys" / "fs" / "cgroup"
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return available
    return min(available, limit - used)


def utc_now() -> str:
    """As records have it: ISO 8601, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def cache_directory() -> Path:
    """`$VITBENCH_CACHE`, or vitbench's folder in the platform's cache folder.

    Raises ValueError where there is none, as in a container whose user has no account.
    """
    chosen = os.environ.get("VITBENCH_CACHE")
    variable = {"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME")
    try:
        if chosen:
            return expanded(Path(chosen))
        if folder := os.environ.get(variable):
            return Path(folder) / "vitbench"
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "vitbench"
    except RuntimeError as error:
        raise ValueError("there is no home folder to keep the cache in; set VITBENCH_CACHE to a folder") from error


def remembered(
    name: str, key: str, measure: Callable[[], Any], *, is_valid: Callable[[Any], bool] = lambda _: True
) -> Any:
    """What `measure` gave for `key` before on this machine, else what it gives now, kept in the cache's `NAME.json`.

    What it gives must be JSON. The file maps keys to values; a key names all that the value depends on. Processes that ask
    at once measure once: the others wait. A damaged file, and a value that is not valid, are measured anew; without a cache
    that can be written, nothing is kept.
    """
    from filelock import FileLock  # which takes a while to import

    try:
        path = cache_directory() / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except (OSError, ValueError):  # no cache, or one that cannot be written
        return measure()
    with lock:
        values = _kept(path)
        if key not in values or not is_valid(values[key]):
            values[key] = measure()
            with suppress(OSError, ValueError):
                write_whole(path, json.dumps(values, indent=1))
        return values[key]


def all_remembered(name: str) -> dict[str, Any]:
    """Everything that the cache's `NAME.json` holds, by key."""
    try:
        return _kept(cache_directory() / f"{name}.json")
    except ValueError:
        return {}


def _kept(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
