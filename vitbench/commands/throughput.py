"""How fast models run, and their peers beside them, on one device: images/s, latency, MFU and memory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from vitbench.config import Precision, ViTConfig
from vitbench.profiling.macs import count
from vitbench.variants import variant as named_variant

if TYPE_CHECKING:
    from torch import nn

    from vitbench.profiling.roofline import Ceilings
    from vitbench.profiling.throughput import Candidate, Result

MODES, PRECISIONS, COMPILES = ("infer", "train"), ("auto", "fp32", "bf16"), ("off", "on")
OURS = "vitbench"


def show_throughput(
    variants: Sequence[str],
    *,
    model: dict[str, Any],
    modes: Sequence[str],
    precisions: Sequence[str],
    compiles: Sequence[str],
    batch_sizes: Sequence[int],
    peers: Sequence[str],
    device: str,
    threads: int | None,
    seconds: float,
    memory: bool,
    as_json: bool,
) -> int:
    """Prints a row for every variant × implementation × mode × precision × compile × batch size, all timed in turn.

    Returns how many of them could not be run. Raises ValueError for a wrong request.
    """
    import torch

    from vitbench.profiling.device import open_device
    from vitbench.profiling.roofline import measure_ceilings
    from vitbench.profiling.throughput import measure

    for name, values, known in (
        ("mode", modes, MODES),
        ("precision", precisions, PRECISIONS),
        ("compile", compiles, COMPILES),
    ):
        for value in values:
            if value not in known:
                raise ValueError(f"{name} {value!r} is not known; use {', '.join(known)}")
    for size in batch_sizes:
        if size < 1:
            raise ValueError(f"batch_size {size} is not a number of images; give 1 or more")
    if seconds <= 0:
        raise ValueError(f"seconds {seconds:g} is no time to measure in; give more than 0")
    if threads is not None:
        torch.set_num_threads(threads)
    opened = open_device(device)
    resolved = list(dict.fromkeys(opened.resolve_precision(cast(Precision, precision)) for precision in precisions))
    candidates = [
        _candidate(variant, implementation, model, mode, precision, compiled == "on", batch_size)
        for variant, implementation, mode, precision, compiled, batch_size in product(
            variants, [OURS, *peers], modes, resolved, compiles, batch_sizes
        )
    ]
    ceilings = measure_ceilings(opened)
    results = measure(candidates, device=opened, max_seconds=seconds, memory=memory)
    if as_json:
        print(json.dumps([_facts(result, ceilings, opened.name) for result in results]))
    else:
        print(f"{opened.name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        _print_table(results, ceilings)
        _print_notes(results, ceilings, seconds)
    return sum(bool(result.reason) for result in results)


def build(implementation: str, config: ViTConfig) -> nn.Module:
    """A model of ours, from seed 0, or a peer's of the same configuration."""
    from vitbench.models import build_model
    from vitbench.profiling.peers import build_peer

    return build_model(config) if implementation == OURS else build_peer(implementation, config)


def _candidate(
    variant: str, implementation: str, model: dict[str, Any], mode: str, precision: str, compiled: bool, batch_size: int
) -> Candidate:
    from vitbench.profiling.peers import check_peer
    from vitbench.profiling.throughput import Candidate

    config = named_variant(variant, **model)
    if implementation != OURS:
        check_peer(implementation, config)
    return Candidate(
        variant=variant,
        implementation=implementation,
        build=partial(build, implementation, config),
        image_shape=(config.in_channels, *config.image_hw),
        num_classes=config.num_classes,
        macs=count(config).macs,
        mode=mode,
        precision=precision,
        compiled=compiled,
        batch_size=batch_size,
    )


def _facts(result: Result, ceilings: Ceilings, device: str) -> dict[str, Any]:
    candidate, timing = result.candidate, result.timing
    return {
        "variant": candidate.variant,
        "implementation": candidate.implementation,
        "mode": candidate.mode,
        "device": device,
        "precision": candidate.precision,
        "compiled": candidate.compiled,
        "batch_size": candidate.batch_size,
        "images_per_second": result.images_per_second,
        "images_per_second_interval": result.interval,
        "latency_p50_ms": timing and 1e3 * timing.median,
        "latency_p99_ms": timing and 1e3 * timing.percentile(99),
        "macs": candidate.macs,
        "mfu": result.mfu(ceilings),
        "peak_memory_bytes": result.peak_memory_bytes,
        "phases_ms": {name: 1e3 * phase.median for name, phase in result.phases.items()},
        "settled": timing is not None and timing.settled,
        "reason": result.reason,
        "ceiling_flops_per_second": ceilings.flops_per_second[candidate.precision],
        "samples": timing.samples if timing else (),
    }


def _print_table(results: Sequence[Result], ceilings: Ceilings) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("variant", "implementation", "mode", "precision", ""):
        table.add_column(heading)
    for heading in ("batch", "images/s", "95 %", "p50 ms", "p99 ms", "MFU", "memory", "n"):
        table.add_column(heading, justify="right")
    for result in results:
        candidate, timing, interval = result.candidate, result.timing, result.interval
        what = (candidate.variant, candidate.implementation, candidate.mode, candidate.precision)
        row = [*what, "compiled" if candidate.compiled else "eager", str(candidate.batch_size)]
        if timing is not None and interval is not None:
            row += [f"{result.images_per_second:,.0f}", f"{interval[0]:,.0f}–{interval[1]:,.0f}"]
            row += [f"{1e3 * timing.median:,.2f}", f"{1e3 * timing.percentile(99):,.2f}"]
            memory = result.peak_memory_bytes
            row += [f"{result.mfu(ceilings):.0%}", "–" if memory is None else f"{memory / 2**20:,.0f} MiB"]
            row += [str(len(timing.samples)) + ("" if timing.settled else " *")]
        table.add_row(*row)
    Console(width=None if os.isatty(1) else 160).print(table)


def _print_notes(results: Sequence[Result], ceilings: Ceilings, seconds: float) -> None:
    for result in results:
        if result.reason:
            print(f"{result.candidate.name}: {result.reason}")
        if result.phases:
            phases = ", ".join(f"{name} {1e3 * phase.median:,.2f} ms" for name, phase in result.phases.items())
            print(f"{result.candidate.name}: {phases}, each synchronised")
    if any(result.timing is not None and not result.timing.settled for result in results):
        print(f"* the median's 95 % interval is wider than 2 % after {seconds:g} s; --seconds gives it more time")
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in ceilings.flops_per_second.items())
    print(
        f"MFU: 2 × MACs an image, 3 times that for training, over the rate of matrix products measured in the same run "
        f"({rates}); copying {ceilings.bytes_per_second / 1e9:,.1f} GB/s"
    )
