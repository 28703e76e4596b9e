"""What this device makes of the models: throughput, peers beside them, counts and traces, kept with the results.

Every part is a file of its own, so that what was measured stays when the command is interrupted, and the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.commands.arguments import MODES
from vitbench.commands.profile_models import CPU, CUDA, Model, Workload
from vitbench.commands.throughput import OURS, check_seconds
from vitbench.config import TimmConfig, ViTConfig
from vitbench.files import shown
from vitbench.profiling.profile_store import Part, find_part, profile_directory, write_part
from vitbench.records.environment import describe_environment

if TYPE_CHECKING:
    from vitbench.device import Device
    from vitbench.profiling.roofline import Ceilings
    from vitbench.profiling.throughput import Candidate, Result

TRACED_STEPS = 3
LIBRARIES = ("timm", "torchvision", "transformers", "vit-pytorch")


@dataclass(frozen=True)
class Unit:
    """One part of a profile: `request` is all that its facts depend on but the device, `measure` what gives them.

    `measure` returns (facts, how much of what was asked could not be run).
    """

    name: str
    request: Mapping[str, Any]
    measure: Callable[[], tuple[dict[str, Any], int]]


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
        named = tuple(Model(variant, batch_size or workload.batch_size, model) for variant in variants)
        _check(named)
        workload = replace(workload, models=named, contests=named)
    units = chosen(units_of(workload, device=opened, seconds=seconds), only)
    without = "no CUDA device here, so " if on_cpu and device == "auto" else ""
    _say(f"{without}this is a profile of {opened.name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if not only or any(name.partition("/")[0] == "peers" for name in only):
        for one in workload.contests:
            if isinstance(one.config(), TimmConfig):
                _say(f"{one.variant} meets no peers, which have no such model: it is timm's own")
    failed = write_parts(units, device=opened, results=results, seconds=seconds, fresh=fresh)
    _print_and_draw(profile_directory(results, opened.name), results)
    return failed


def _check(models: Sequence[Model]) -> None:
    """Raises ValueError for a model that has no meaning or, of timm's, one that cannot be made or run at this size."""
    from vitbench.costs.counters import count_timm

    for config in (model.config() for model in models):
        if isinstance(config, TimmConfig):
            count_timm(config)


def units_of(workload: Workload, *, device: Device, seconds: float) -> list[Unit]:
    """Every part of the profile of `device`, each row of which may take `seconds`; what takes longest comes last."""
    units = [Unit("ceilings", {}, partial(_ceilings, device))]
    units += [_flops_unit(model) for model in workload.models]
    units += [_throughput_unit(m, mode, workload, device, seconds) for m in workload.models for mode in MODES]
    units += [_trace_unit(model, mode, device) for model in workload.models for mode in MODES]
    for model in workload.contests:
        for mode in MODES:
            units += [
                _contest_unit(model, mode, pool, rivals, workload, device, seconds)
                for pool, rivals in _rivals(model).items()
            ]
    return units


def chosen(units: Sequence[Unit], only: Sequence[str]) -> list[Unit]:
    """The units whose names, or the beginnings of whose names, `only` holds; all where it is empty."""
    for name in only:
        if not any(_is_within(unit, name) for unit in units):
            names = [unit.name for unit in units]
            known = dict.fromkeys([*(name.partition("/")[0] for name in names), *names])
            raise ValueError(f"only {name!r} is no part; use {', '.join(known)}")
    return [unit for unit in units if not only or any(_is_within(unit, name) for name in only)]


def write_parts(units: Sequence[Unit], *, device: Device, results: Path, seconds: float, fresh: bool) -> int:
    """Measures each unit that its file does not settle, and writes it. Returns how much could not be run."""
    import torch

    directory, failed = profile_directory(results, device.name), 0
    environment = _environment(device.name, threads=torch.get_num_threads())
    for number, unit in enumerate(units, start=1):
        before = find_part(directory, unit.name)
        if not fresh and before and before.settles(request=unit.request, environment=environment, seconds=seconds):
            failed += before.missing
            again = f", {before.missing} could not be run; --fresh tries again" if before.missing else ""
            _say(f"[{number}/{len(units)}] {unit.name}: measured {before.started[:10]}{again}")
            continue
        torch._dynamo.reset()  # programs of earlier parts would be looked through at every call
        started, facts, reason = _now(), dict[str, Any](), ""
        try:
            facts, missing = unit.measure()
        except Exception as error:  # a part's failure is what its file says, and the others' go on
            reason, missing = " ".join(f"{type(error).__name__}: {error}".split())[:300], 1
        failed += missing
        part = Part(unit.name, unit.request, environment, seconds, started, _now(), facts, missing, reason)
        write_part(directory, part)
        remark = reason or (f"{missing} could not be run" if missing else "done")
        _say(f"[{number}/{len(units)}] {unit.name}: {remark}")
    return failed


def _ceilings(device: Device) -> tuple[dict[str, Any], int]:
    from vitbench.profiling.roofline import measure_ceilings

    return {"ceilings": asdict(measure_ceilings(device))}, 0


def _flops_unit(model: Model) -> Unit:
    request = {"variant": model.variant, "model": model.config().model_dump(mode="json")}
    return Unit(f"flops/{model.slug}", request, partial(_flops, model))


def _flops(model: Model) -> tuple[dict[str, Any], int]:
    import torch

    from vitbench.commands.flops import count_three_times

    agreed = count_three_times(model.config(), device=torch.device("meta"), training=False)
    return {
        **asdict(agreed.total()),
        "counters": list(agreed.counters),
        "largest_difference": agreed.difference,
        "parts": {name: asdict(counts) for name, counts in agreed.parts.items()},
    }, 0


def _throughput_unit(model: Model, mode: str, workload: Workload, device: Device, seconds: float) -> Unit:
    request = {**_request(model, mode), "compile": list(workload.compiles)}
    return Unit(
        f"throughput/{model.slug}-batch{model.batch_size}-{mode}",
        request,
        partial(_throughput, model, mode, workload, device, seconds),
    )


def _throughput(
    model: Model, mode: str, workload: Workload, device: Device, seconds: float
) -> tuple[dict[str, Any], int]:
    from vitbench.profiling.roofline import measure_ceilings
    from vitbench.profiling.throughput import measure

    precision = device.resolve_precision("auto")
    candidates = [
        _candidate(model, OURS, mode, precision=precision, compiled=compiled == "on") for compiled in workload.compiles
    ]
    ceilings = measure_ceilings(device)
    results = measure(candidates, device=device, max_seconds=seconds, memory=True)
    rows = [_row(result, ceilings, device) for result in results]
    return {"rows": rows, "ceilings": asdict(ceilings)}, sum(bool(row["reason"]) for row in rows)


def _trace_unit(model: Model, mode: str, device: Device) -> Unit:
    return Unit(
        f"traces/{model.slug}-batch{model.batch_size}-{mode}",
        {**_request(model, mode), "steps": TRACED_STEPS},
        partial(_trace, model, mode, device),
    )


def _trace(model: Model, mode: str, device: Device) -> tuple[dict[str, Any], int]:
    from vitbench.profiling.breakdown import block_of, role_of
    from vitbench.profiling.trace import measure_breakdown

    precision = device.resolve_precision("auto")
    candidate = _candidate(model, OURS, mode, precision=precision, compiled=False)
    breakdown = measure_breakdown(candidate, device, steps=TRACED_STEPS)
    rows = [{**asdict(row), "block": block_of(row.part), "role": role_of(row.part)} for row in breakdown.rows]
    # Without their names in every row, and in nanoseconds, which is what a trace counts in: a third of the size.
    values = [[round(value, 9) if name == "seconds" else value for name, value in row.items()] for row in rows]
    return {
        "precision": precision,
        "compiled": False,
        "step_seconds": breakdown.step_seconds,
        "steps": breakdown.steps,
        "columns": list(rows[0]),
        "rows": values,
    }, 0


def _contest_unit(
    model: Model, mode: str, pool: str, rivals: Sequence[str], workload: Workload, device: Device, seconds: float
) -> Unit:
    settings = list(product(workload.contest_precisions, workload.contest_compiles))
    implementations = [OURS, *rivals]
    request = {
        **_request(model, mode, pool=pool),
        "implementations": implementations,
        "settings": [[precision, compiled] for precision, compiled in settings],
    }
    candidates = {
        name: [
            _candidate(model, name, mode, precision=precision, compiled=compiled == "on", pool=pool)
            for precision, compiled in settings
        ]
        for name in implementations
    }
    return Unit(
        f"peers/{model.slug}-batch{model.batch_size}-{pool}-{mode}",
        request,
        partial(_contest, candidates, device, seconds),
    )


def _contest(
    candidates: Mapping[str, Sequence[Candidate]], device: Device, seconds: float
) -> tuple[dict[str, Any], int]:
    from vitbench.profiling.contest import hold_contest
    from vitbench.profiling.roofline import measure_ceilings

    ceilings = measure_ceilings(device)
    held = hold_contest(candidates, device=device, max_seconds=seconds)
    heats = [
        {
            "implementation": heat.candidate.implementation,
            "precision": heat.candidate.precision,
            "compiled": heat.candidate.compiled,
            "warmup": heat.warmup,
            "samples": heat.samples,
            "reason": heat.reason,
        }
        for heat in held.heats
    ]
    rows = [_row(result, ceilings, device) for result in held.finals]
    facts = {"heats": heats, "rows": rows, "ceilings": asdict(ceilings), "versions": _versions()}
    return facts, len(held.absent) + sum(bool(row["reason"]) for row in rows)


def _row(result: Result, ceilings: Ceilings, device: Device) -> dict[str, Any]:
    """As `vitbench throughput --json` gives it."""
    from vitbench.commands import throughput

    return throughput.facts_of(result, ceilings, device.name)


def _candidate(
    model: Model, implementation: str, mode: str, *, precision: str, compiled: bool, **changes: Any
) -> Candidate:
    from vitbench.commands import throughput

    fields = {**model.fields, **changes}
    return throughput.make_candidate(model.variant, implementation, fields, mode, precision, compiled, model.batch_size)


def _rivals(model: Model) -> dict[str, list[str]]:
    """Pooling → the peers that have such a model: the class token for all, the average for those that can.

    No peer has those of timm.
    """
    from vitbench.profiling.peers import PEERS, check_peer

    found: dict[str, list[str]] = {}
    if isinstance(model.config(), TimmConfig):
        return found
    for pool in ("cls", "gap"):
        for name in PEERS:
            try:
                config = model.config(pool=pool)
                assert isinstance(config, ViTConfig), config
                check_peer(name, config)
            except ValueError:  # it has no such model; the table shows who took part
                continue
            found.setdefault(pool, []).append(name)
    return found


def _request(model: Model, mode: str, **changes: Any) -> dict[str, Any]:
    return {
        "variant": model.variant,
        "model": model.config(**changes).model_dump(mode="json"),
        "mode": mode,
        "batch_size": model.batch_size,
    }


def _environment(device: str, *, threads: int) -> dict[str, Any]:
    """Where all parts are measured; what differs between the rows of a part is in the rows."""
    of_runs = {"precision", "compiled", "compile_note", "workers", "data_sha256"}
    return describe_environment(device, precision="", threads=threads).model_dump(exclude=of_runs)


def _versions() -> dict[str, str]:
    """Of the peers that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _is_within(unit: Unit, name: str) -> bool:
    return unit.name == name or unit.name.startswith(f"{name.rstrip('/')}/")


def _print_and_draw(directory: Path, results: Path) -> None:
    from vitbench.analysis.profile.contests import summary
    from vitbench.analysis.profile.profile import load_profile
    from vitbench.analysis.profile.roofline import write_rooflines
    from vitbench.analysis.profile.rows import left_out
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
