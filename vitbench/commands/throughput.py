"""How fast models run, and their peers beside them, on one device: images/s, latency, MFU, memory and energy."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from vitbench.config import MOST, Precision
from vitbench.costs.macs import MFU_MEANS, unread_sentence
from vitbench.variants import model as named_model

if TYPE_CHECKING:
    from vitbench.device import Device, DeviceState
    from vitbench.profiling.batch_size import Trial
    from vitbench.profiling.roofline import Ceilings
    from vitbench.profiling.throughput import Result

MOST_SECONDS = 86_400


def show_throughput(
    variants: Sequence[str],
    *,
    model: dict[str, Any],
    modes: Sequence[str],
    precisions: Sequence[str],
    compiles: Sequence[str],
    batch_sizes: Sequence[str],
    peers: Sequence[str],
    device: str,
    threads: int | None,
    seconds: float,
    memory: bool,
    as_json: bool,
) -> int:
    """Prints a row for every variant × implementation × mode × precision × compile × batch size, all timed in turn.

    A batch size is a number of images, `best` (the fastest, searched by doubling) or `max` (the largest power of two that
    fits); both are searched for every row by itself. Energy is that of the whole device; idle power is not subtracted.
    Returns how many of them could not be run. Raises ValueError for a wrong request.
    """
    import torch

    from vitbench.device import open_device
    from vitbench.profiling.candidates import OURS, candidate_of
    from vitbench.profiling.roofline import measure_ceilings
    from vitbench.profiling.throughput import measure
    from vitbench.profiling.throughput_row import throughput_row

    check_seconds(seconds)
    if threads is not None:
        torch.set_num_threads(threads)
    opened = open_device(device)
    sizes = list(dict.fromkeys(_batch_size(text, opened) for text in batch_sizes))
    resolved = list(dict.fromkeys(opened.resolve_precision(cast(Precision, precision)) for precision in precisions))
    configs = {variant: named_model(variant, **model) for variant in variants}
    candidates = [
        candidate_of(
            configs[variant],
            variant,
            implementation=implementation,
            mode=mode,
            precision=precision,
            compiled=compile == "on",
            batch_size=size,
        )
        for variant, implementation, mode, precision, compile, size in product(
            variants, [OURS, *peers], modes, resolved, compiles, sizes
        )
    ]
    ceilings = measure_ceilings(opened)
    results = measure(candidates, device=opened, max_seconds=seconds, memory=memory)
    if as_json:
        rows = [throughput_row(result, ceilings, device=opened.name) for result in results]
        for row in rows:
            row["config"] = configs[row["variant"]].model_dump(mode="json")
        print(json.dumps(rows))
    else:
        print(f"{opened.name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        _print_table(results, ceilings)
        _print_notes(results, ceilings, seconds)
        if sentence := unread_sentence(configs):
            print(sentence)
    return sum(bool(result.reason) for result in results)


def check_seconds(seconds: float) -> None:
    """Raises ValueError for no time, and for more than a day, to measure a row in."""
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"seconds {seconds:g} is no time to measure in; give more than 0, and {MOST_SECONDS} at most")


def _batch_size(text: str, device: Device) -> int | str:
    """A number of images, or the name of a search that this device can do."""
    from vitbench.profiling.batch_size import SEARCHES

    if text == "max" and not device.raises_out_of_memory:
        raise ValueError(
            f"batch_size 'max' cannot be searched on {device.torch_device.type}, where the system ends a process that runs "
            "out of memory; give best, or a number of images"
        )
    if text in SEARCHES:
        return text
    if not (text.isascii() and text.isdecimal() and 0 < float(text) <= MOST):
        raise ValueError(
            f"batch_size {text} is not from 1 to {MOST} images; give such a number, or {', '.join(SEARCHES)}"
        )
    return int(text)


def _print_table(results: Sequence[Result], ceilings: Ceilings) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("variant", "implementation", "mode", "precision", ""):
        table.add_column(heading)
    with_energy = any(result.energy for result in results)
    energy_heading = ["mJ/image"] if with_energy else []
    for heading in ("batch", "images/s", "95 %", "p50 ms", "p99 ms", "MFU", "memory", *energy_heading, "n"):
        table.add_column(heading, justify="right")
    for result in results:
        candidate, timing, interval = result.candidate, result.timing, result.interval
        what = (candidate.variant, candidate.implementation, candidate.mode, candidate.precision)
        row = [*what, "compiled" if candidate.compiled else "eager"]
        row += [f"{candidate.search} {candidate.batch_size}".strip()]
        if timing is not None and interval is not None:
            row += [f"{result.images_per_second:,.0f}", f"{interval[0]:,.0f}–{interval[1]:,.0f}"]
            row += [f"{1e3 * timing.median:,.2f}", f"{1e3 * timing.percentile(99):,.2f}"]
            memory = result.peak_memory_bytes
            row += [f"{result.mfu(ceilings):.0%}", "–" if memory is None else f"{memory / 2**20:,.0f} MiB"]
            joules = result.joules_per_image
            row += ["–" if joules is None else f"{1e3 * joules:,.3g}"] if with_energy else []
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
        if not result.in_turn:
            print(f"{result.candidate.name}: timed alone, for want of memory beside the others")
        if result.batch_sizes_tried:
            print(f"{result.candidate.name}: {_curve(result.batch_sizes_tried)}")
    if any(result.timing is not None and not result.timing.settled for result in results):
        print(f"* the median's 95 % interval is wider than 2 % after {seconds:g} s; --seconds gives it more time")
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in ceilings.flops_per_second.items())
    print(f"{MFU_MEANS} Here: {rates}; copying {ceilings.bytes_per_second / 1e9:,.1f} GB/s")
    for note in dict.fromkeys(result.energy_note for result in results if result.energy_note):
        print(f"energy: {note}")
    state = next((result.state for result in results if result.state), None)
    if state:
        print(f"before → after: {_describe(state)}")
        for line in (state.missing and f"not told: {state.missing}", state.warning and f"warning: {state.warning}"):
            if line:
                print(line)


def _curve(trials: Sequence[Trial]) -> str:
    """What a search saw: images/s by batch size, or why a size did not run."""
    sizes = (
        f"{trial.batch_size}: {trial.reason}"
        if trial.reason
        else f"{trial.batch_size}: {trial.images_per_second:,.0f} images/s"
        if trial.images_per_second
        else f"{trial.batch_size}: fits"
        for trial in trials
    )
    return "tried " + ", ".join(sizes)


STATE = {
    "cpu_mhz": "CPU {} MHz",
    "load_average": "load average {}",
    "gpu_sm_mhz": "GPU {} MHz",
    "gpu_memory_mhz": "its memory {} MHz",
    "gpu_power_watts": "{} W",
    "gpu_power_limit_watts": "limit {} W",
    "gpu_celsius": "{} °C",
    "gpu_other_processes": "{} other processes on the GPU",
}


def _describe(state: DeviceState) -> str:
    """One line of what is told: a value before → the value after, or one value where they are the same."""
    parts = []
    for key, words in STATE.items():
        values = [f"{value:,.4g}" for moment in (state.before, state.after) if (value := moment.get(key)) is not None]
        if values:
            parts.append(words.format(" → ".join(dict.fromkeys(values))))
    if state.other_cores is not None:
        parts.append(f"other processes on {state.other_cores:.2f} of {state.after['cores']:g} cores")
    return ", ".join(parts)
