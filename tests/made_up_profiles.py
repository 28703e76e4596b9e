"""Profiles as `vitbench profile` writes them, with samples and counts chosen by each test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitbench.analysis.profile.profile import Profile, load_profile
from vitbench.config import ViTConfig
from vitbench.profiling.profile_store import Part, list_profiles, profile_directory, write_part

CEILINGS = {"flops_per_second": {"fp32": 100e9, "bf16": 400e9}, "bytes_per_second": 20e9}
COLUMNS = ("part", "block", "role", "kind", "phase", "seconds", "calls", "flops", "bytes")


def make_part(root: Path, name: str, request: Mapping[str, Any], facts: Mapping[str, Any], **changes: Any) -> Part:
    """Writes a part below `root`; `device`, `torch`, `threads`, `machine`, `finished` and `reason` may be changed."""
    environment = {"device": "cpu: Example", "machine": "0123abcd", "torch": "2.14.1", "threads": 2}
    environment |= {key: changes.pop(key) for key in list(changes) if key in environment}
    values = {"seconds": 5.0, "started": "2026-11-22T10:00:00.000+00:00", "finished": "2026-11-22T10:01:00.000+00:00"}
    part = Part(name=name, request=request, environment=environment, facts=facts, **{**values, **changes})
    write_part(profile_directory(root, environment["device"]), part)
    return part


def model_request(mode: str, *, batch_size: int = 16, **fields: Any) -> dict[str, Any]:
    config = ViTConfig(**{"patch_size": 16, **fields})
    model = config.model_dump(mode="json")
    return {"variant": "S/16", "model": model, "mode": mode, "batch_size": batch_size}


def make_row(
    implementation: str, samples: Sequence[float], *, mode: str = "train", batch_size: int = 16, **fields: Any
) -> dict[str, Any]:
    """A row of `vitbench throughput --json` with the median of an odd number of samples, and 1 GMAC an image."""
    median = sorted(samples)[len(samples) // 2] if samples else None
    rate = batch_size / median if median else None
    row = {
        "variant": "S/16",
        "implementation": implementation,
        "mode": mode,
        "precision": "bf16",
        "compiled": False,
        "batch_size": batch_size,
        "images_per_second": rate,
        "images_per_second_interval": rate and [0.9 * rate, 1.1 * rate],
        "latency_p50_ms": median and 1e3 * median,
        "latency_p99_ms": max(samples, default=0) * 1e3 or None,
        "macs": 10**9,
        "mfu": rate and 6e9 * rate / 400e9,
        "peak_memory_bytes": None,
        "settled": True,
        "in_turn": True,
        "device_state": None,
        "reason": "",
        "samples": list(samples),
    }
    return {**row, **fields}


def make_heat(implementation: str, samples: Sequence[float], **fields: Any) -> dict[str, Any]:
    heat = {"implementation": implementation, "precision": "bf16", "compiled": False, "warmup": [], "reason": ""}
    return {**heat, "samples": list(samples), **fields}


def make_contest(
    root: Path,
    samples: Mapping[str, Sequence[float]],
    *,
    mode: str = "train",
    pool: str = "cls",
    batch_size: int = 16,
    rows: Mapping[str, Mapping[str, Any]] | None = None,
    heats: Sequence[Mapping[str, Any]] = (),
    **changes: Any,
) -> Part:
    """A contest of implementations with these `samples` in the final; `rows` replaces fields of theirs."""
    final = [
        make_row(name, values, mode=mode, batch_size=batch_size, **(rows or {}).get(name, {}))
        for name, values in samples.items()
    ]
    tried = [*(make_heat(name, values) for name, values in samples.items()), *heats]
    facts = {"heats": tried, "rows": final, "ceilings": CEILINGS, "versions": {"timm": "1.0.31"}}
    request = model_request(mode, batch_size=batch_size, pool=pool)
    return make_part(root, f"peers/S-16-224px-batch{batch_size}-{pool}-{mode}", request, facts, **changes)


def make_throughput(root: Path, *rows: Mapping[str, Any], mode: str = "train", **changes: Any) -> Part:
    facts = {"rows": list(rows), "ceilings": changes.pop("ceilings", CEILINGS)}
    return make_part(root, f"throughput/S-16-224px-batch16-{mode}", model_request(mode), facts, **changes)


def make_trace(root: Path, *rows: Sequence[Any], mode: str = "train", **changes: Any) -> Part:
    """`rows` are values under COLUMNS."""
    facts = {"precision": "bf16", "compiled": False, "step_seconds": 1.0, "steps": 2}
    facts |= {"columns": list(COLUMNS), "rows": [list(row) for row in rows]}
    return make_part(root, f"traces/S-16-224px-batch16-{mode}", model_request(mode), facts, **changes)


def profile_in(root: Path) -> Profile:
    (directory,) = list_profiles(root)
    return load_profile(directory)


DRIFTING = {
    "vitbench": [1.0, 2.0, 4.0],
    "timm": [1.5, 3.0, 6.0],
    "vit-pytorch": [1.2, 2.2, 4.8],
    "torchvision": [9.0, 9.0, 9.0],
}
"""Round by round timm takes 1.5 times as long, although the machine slows down; vit-pytorch 1.2, 1.1 and 1.2 times."""
