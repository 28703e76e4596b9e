"""`vitbench profile`: what this device makes of the models, kept with the results part by part."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitbench.commands.throughput import check_seconds
from vitbench.config import TimmConfig
from vitbench.files import shown
from vitbench.profiling.profile_store import profile_directory
from vitbench.profiling.workload import CPU, CUDA, ProfiledModel


def show_profile(
    variants: Sequence[str],
    *,
    model: dict[str, Any],
    batch_size: int | None,
    results: Path,
    only: Sequence[str],
    fresh: bool,
    device: str,
    threads: int | None,
    seconds: float,
) -> int:
    """Measures what is not there yet, writes tables and plots; prints the comparison with peers and the paths.

    Returns how much could not be run. Raises ValueError for a wrong request.
    """
    import torch

    from vitbench.device import open_device
    from vitbench.profiling.profile import measure_parts
    from vitbench.profiling.profile_parts import ProfilePlan

    check_seconds(seconds)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not a number of images; give 1 or more")
    if not variants and (model or batch_size):
        raise ValueError("fields of the model and batch_size are those of VARIANTs; name one")
    if threads is not None:
        torch.set_num_threads(threads)
    opened = open_device(device)
    on_cpu = opened.torch_device.type == "cpu"
    workload = CPU if on_cpu else CUDA
    if variants:
        named = tuple(ProfiledModel(variant, batch_size or workload.batch_size, model) for variant in variants)
        _check(named)
        workload = replace(workload, models=named, contests=named)
    parts = ProfilePlan(workload, opened, seconds).parts(only)
    without = "no CUDA device here, so " if on_cpu and device == "auto" else ""
    _say(f"{without}this is a profile of {opened.name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if not only or any(name.partition("/")[0] == "peers" for name in only):
        for contestant in workload.contests:
            if isinstance(contestant.config(), TimmConfig):
                _say(f"{contestant.variant} meets no peers, which have no such model: it is timm's own")
    num_failed = measure_parts(parts, device=opened, results=results, seconds=seconds, fresh=fresh, say=_say)
    _print_and_draw(profile_directory(results, opened.name), results)
    return num_failed


def _check(models: Sequence[ProfiledModel]) -> None:
    """Raises ValueError for a model that has no meaning or, of timm's, one that cannot be made or run at this size."""
    from vitbench.costs.counters import count_timm

    for config in (model.config() for model in models):
        if isinstance(config, TimmConfig):
            count_timm(config)


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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
