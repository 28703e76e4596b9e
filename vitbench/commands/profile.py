"""`vitbench profile`: what this device makes of the models, kept with the results part by part."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vitbench.commands.arguments import DONE, FAILED, LOCAL_RESULTS, DeviceOptions, Results, Seconds
from vitbench.commands.callbacks import at_least_one
from vitbench.commands.options import ModelFields, with_options
from vitbench.config import MOST, TimmConfig
from vitbench.files import shown
from vitbench.text import counted


@with_options
def profile(
    model: ModelFields,
    variants: Annotated[
        list[str] | None, typer.Argument(help="Micro/2, B/16, … or timm:NAME; by default a set that suits the device.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(max=MOST, callback=at_least_one, help="Images, of the variants named.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="ceilings, flops, throughput, traces or peers, or one part of these; may be given again."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is there already.")] = False,
    full_tokens: Annotated[
        bool,
        typer.Option(
            "--full-tokens", help="Throughput of models with a class token also with all tokens in the last block."
        ),
    ] = False,
    seconds: Seconds = 5.0,
    device_options: DeviceOptions = DeviceOptions(),
    results: Results = LOCAL_RESULTS,
) -> None:
    """Throughput, peers at their best, FLOPs, traces and roofline of this device, into --results' profiles/<device>/.

    Interrupt it whenever you like; the next call goes on. Any field of the model is an option, with VARIANTs.
    """
    import torch

    from vitbench.costs.counters import count_timm
    from vitbench.profiling.profile import measure_parts
    from vitbench.profiling.profile_parts import ProfilePlan
    from vitbench.profiling.profile_store import profile_directory
    from vitbench.profiling.workload import CPU, CUDA, ProfiledModel

    if not variants and (model or batch_size):
        raise ValueError("fields of the model and batch_size are those of VARIANTs; name one")
    say = partial(print, file=sys.stderr, flush=True)
    device = device_options.open_device()
    on_cpu = device.torch_device.type == "cpu"
    workload = CPU if on_cpu else CUDA
    if variants:
        named = tuple(ProfiledModel(variant, batch_size or workload.batch_size, model) for variant in variants)
        for config in (contestant.config() for contestant in named):  # refuses fields without meaning
            if isinstance(config, TimmConfig):
                count_timm(config)  # refuses a model that cannot be made, or run at this size
        workload = replace(workload, models=named, contests=named)
    parts = ProfilePlan(workload, device, seconds, full_tokens).parts(only or [])
    without = "no CUDA device here, so " if on_cpu and device_options.device == "auto" else ""
    threads = counted(torch.get_num_threads(), "thread")
    say(f"{without}this is a profile of {device.name}, {threads}, torch {torch.__version__}")
    if not only or any(name.partition("/")[0] == "peers" for name in only):
        for contestant in workload.contests:
            if isinstance(contestant.config(), TimmConfig):
                say(f"{contestant.variant} meets no peers, which have no such model: it is timm's own")
    num_failed = measure_parts(parts, device=device, results=results, seconds=seconds, fresh=fresh, say=say)
    _print_and_draw(profile_directory(results, device.name), results)
    raise typer.Exit(FAILED if num_failed else DONE)


def _print_and_draw(directory: Path, results: Path) -> None:
    from vitbench.analysis.profile.contests import summary
    from vitbench.analysis.profile.notes import left_out
    from vitbench.analysis.profile.profile import load_profile
    from vitbench.analysis.profile.roofline import write_rooflines
    from vitbench.analysis.profile.tables import write_profiles
    from vitbench.analysis.writing.table import markdown

    paths = [path for path in (*write_rooflines(results), *write_profiles(results)) if path.is_relative_to(directory)]
    profile = load_profile(directory)
    if (table := summary(profile)).rows:
        print(markdown(table, where=profile.where, remarks=left_out(profile)))
    for path in paths:
        print(shown(path))
