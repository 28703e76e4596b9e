"""What does one row of a throughput measurement hold, as `vitbench throughput --json` and profiles write it?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from vitbench.kernels.choice import describe_use
from vitbench.profiling.candidates import OURS
from vitbench.profiling.roofline import Ceilings
from vitbench.profiling.throughput import Result

SCHEMA = 1
"""Raised whenever a key changes its meaning."""


def throughput_row(result: Result, ceilings: Ceilings, *, device: str) -> dict[str, Any]:
    """All that was measured of a candidate and under which conditions, every sample included, as JSON can hold it."""
    candidate, timing = result.candidate, result.timing
    kernels = "torch"
    if candidate.implementation == OURS:
        kind, precision = device.partition(":")[0], candidate.precision
        kernels = describe_use(kind, precision=precision, compiled=candidate.compiled, width=candidate.width)
        kernels = ": ".join(filter(None, (kernels, result.attention)))
    return {
        "schema": SCHEMA,
        "started": result.started,
        "device": device,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ceilings": asdict(ceilings),
        "variant": candidate.variant,
        "implementation": candidate.implementation,
        "mode": candidate.mode,
        "precision": candidate.precision,
        "compiled": candidate.compiled,
        "cuda_graphs": candidate.cuda_graphs,
        "last_block": candidate.last_block,
        "kernels": kernels,
        "batch_size": candidate.batch_size,
        "batch_size_search": candidate.search,
        "batch_sizes_tried": [asdict(trial) for trial in result.batch_sizes_tried],
        "images_per_second": result.images_per_second,
        "images_per_second_interval": result.interval,
        "latency_p5_ms": timing and 1e3 * timing.percentile(5),
        "latency_p50_ms": timing and 1e3 * timing.median,
        "latency_p95_ms": timing and 1e3 * timing.percentile(95),
        "latency_p99_ms": timing and 1e3 * timing.percentile(99),
        "macs": candidate.macs,
        "mfu": result.mfu(ceilings),
        "peak_memory_bytes": result.peak_memory_bytes,
        "energy_joules_per_image": result.joules_per_image,
        "energy": result.energy and asdict(result.energy),
        "energy_note": result.energy_note,
        "phases_ms": {name: 1e3 * phase.median for name, phase in result.phases.items()},
        "phase_samples": {name: phase.samples for name, phase in result.phases.items()},
        "settled": timing is not None and timing.settled,
        "in_turn": result.in_turn,
        "device_state": result.state and asdict(result.state),
        "reason": result.reason,
        "ceiling_flops_per_second": ceilings.flops_per_second[candidate.precision],
        "warmup": timing.warmup if timing else (),
        "samples": timing.samples if timing else (),
    }
