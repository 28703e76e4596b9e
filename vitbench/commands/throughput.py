"""`vitbench throughput`: how fast models run, and their peers beside them, on one device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vitbench.commands import arguments
from vitbench.commands.options import ModelFields, with_options
from vitbench.commands.terminal_table import print_table
from vitbench.config import MOST, Precision
from vitbench.costs.macs import MFU_MEANS, unread_sentence

if TYPE_CHECKING:
    from vitbench.device import Device, DeviceState
    from vitbench.profiling.batch_size import Trial
    from vitbench.profiling.roofline import Ceilings
    from vitbench.profiling.throughput import Candidate, Result
    from vitbench.studies.target import Target


@with_options
def throughput(
    model: ModelFields,
    variants: arguments.Variants,
    mode: arguments.Modes = None,
    precision: arguments.PrecisionNames = None,
    compile: arguments.CompileNames = None,
    batch_size: Annotated[
        list[str] | None,
        typer.Option(
            help="Images, or best or max, searched for each row, may be given again; default: an arm's, where its study sets "
            "it, else 64."
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="timm, vit-pytorch, torchvision or transformers beside it; may be given again."),
    ] = None,
    seconds: arguments.Seconds = 5.0,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too; on CPU in a new process for each row.")] = True,
    model_options: arguments.ModelOptions = arguments.ModelOptions(),
    device_options: arguments.DeviceOptions = arguments.DeviceOptions(),
    as_json: arguments.AsJson = False,
) -> None:
    """Images/s, latency and MFU of models, and of peers beside them, timed in turn. Any field of the model is an option."""
    import torch

    from vitbench.profiling.candidates import OURS
    from vitbench.profiling.roofline import measure_ceilings
    from vitbench.profiling.throughput import measure
    from vitbench.profiling.throughput_row import throughput_row

    device = device_options.open_device()
    sizes = list(dict.fromkeys(_batch_size(text, device) for text in batch_size or ()))
    targets = {variant: model_options.target(variant, model) for variant in variants}
    asked = [OURS, *(peer or [])], mode or arguments.MODES, precision, compile, sizes
    candidates = [candidate for variant in variants for candidate in _candidates(targets[variant], device, *asked)]
    unmeasured = {name: target.tell_unmeasured(arguments.MEASURED_SETTINGS) for name, target in targets.items()}
    configs = {name: target.model for name, target in targets.items()}
    ceilings = measure_ceilings(device)
    results = measure(candidates, device=device, max_seconds=seconds, memory=memory)
    if as_json:
        rows = []
        for result in results:
            name, row = result.candidate.variant, throughput_row(result, ceilings, device=device.name)
            rows.append({**row, "config": configs[name].model_dump(mode="json"), "not_measured": unmeasured[name]})
        print(json.dumps(rows))
    else:
        print(f"{device.name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        has_energy = any(result.energy for result in results)
        table = [_table_row(result, ceilings, has_energy=has_energy) for result in results]
        print_table(table, texts=["variant", "implementation", "mode", "precision", ""])
        _print_notes(results, ceilings, seconds)
        if sentence := unread_sentence(configs):
            print(sentence)
    raise typer.Exit(arguments.FAILED if any(result.reason for result in results) else arguments.DONE)


def _candidates(
    target: Target,
    device: Device,
    implementations: Sequence[str],
    modes: Sequence[str],
    precisions: Sequence[str] | None,
    compiles: Sequence[str] | None,
    batch_sizes: Sequence[int | str],
) -> Iterator[Candidate]:
    """All combinations. What is not given is as the target's study sets it, or else as for every variant."""
    from vitbench.profiling.candidates import candidate_of, is_compiled

    settings = {**arguments.MEASURED_SETTINGS, **target.settings}
    resolved = (device.resolve_precision(cast(Precision, name)) for name in precisions or [settings["precision"]])
    compiled = [is_compiled(name, device.torch_device) for name in compiles or [settings["compile"]]]
    sizes = batch_sizes or [settings["batch_size"]]
    for implementation, mode, precision, is_on, size in product(
        implementations, modes, dict.fromkeys(resolved), compiled, sizes
    ):
        yield candidate_of(
            target.model,
            target.name,
            implementation=implementation,
            mode=mode,
            precision=precision,
            compiled=is_on,
            batch_size=size,
        )


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


def _table_row(result: Result, ceilings: Ceilings, *, has_energy: bool) -> dict[str, str]:
    candidate, timing, interval = result.candidate, result.timing, result.interval
    memory, joules = result.peak_memory_bytes, result.joules_per_image
    row = {
        "variant": candidate.variant,
        "implementation": candidate.implementation,
        "mode": candidate.mode,
        "precision": candidate.precision,
        "": "compiled" if candidate.compiled else "eager",
        "batch": f"{candidate.search} {candidate.batch_size}".strip(),
    }
    columns = ("images/s", "95 %", "p50 ms", "p99 ms", "MFU", "memory", *(["mJ/image"] if has_energy else []), "n")
    if timing is None or interval is None:
        return row | dict.fromkeys(columns, "")
    measured = {
        "images/s": f"{result.images_per_second:,.0f}",
        "95 %": f"{interval[0]:,.0f}–{interval[1]:,.0f}",
        "p50 ms": f"{1e3 * timing.median:,.2f}",
        "p99 ms": f"{1e3 * timing.percentile(99):,.2f}",
        "MFU": f"{result.mfu(ceilings):.0%}",
        "memory": "–" if memory is None else f"{memory / 2**20:,.0f} MiB",
        "mJ/image": "–" if joules is None else f"{1e3 * joules:,.3g}",
        "n": str(len(timing.samples)) + ("" if timing.settled else " *"),
    }
    return row | {column: measured[column] for column in columns}


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
            print(f"{result.candidate.name}: tried {', '.join(map(_outcome, result.batch_sizes_tried))}")
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


def _outcome(trial: Trial) -> str:
    rate = f"{trial.images_per_second:,.0f} images/s" if trial.images_per_second else "fits"
    return f"{trial.batch_size}: {trial.reason or rate}"


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
    """One line: each value before → after, or once where they are the same."""
    parts = []
    for key, words in STATE.items():
        values = [f"{value:,.4g}" for moment in (state.before, state.after) if (value := moment.get(key)) is not None]
        if values:
            parts.append(words.format(" → ".join(dict.fromkeys(values))))
    if state.other_cores is not None:
        parts.append(f"other processes on {state.other_cores:.2f} of {state.after['cores']:g} cores")
    return ", ".join(parts)
