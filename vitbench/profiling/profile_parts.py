"""Which parts does the profile of a device have, and how is each measured?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from importlib import metadata
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch

from vitbench.config import TimmConfig, ViTConfig
from vitbench.costs.cross_check import cross_check
from vitbench.costs.macs import FORWARDS, unread_macs
from vitbench.device import Device
from vitbench.profiling.breakdown import Row, block_name, role_name
from vitbench.profiling.candidates import OURS, candidate_of
from vitbench.profiling.contest import hold_contest
from vitbench.profiling.peers import PEERS, check_peer
from vitbench.profiling.roofline import Ceilings, measure_ceilings
from vitbench.profiling.throughput import Candidate, Result, measure
from vitbench.profiling.throughput_row import throughput_row
from vitbench.profiling.trace import record
from vitbench.profiling.workload import ProfiledModel, Workload

TRACED_STEPS = 3
LIBRARIES = ("timm", "torchvision", "transformers", "vit-pytorch")

Measurement = tuple[dict[str, Any], int]
"""(facts, how much of what was asked could not be run)."""


@dataclass(frozen=True)
class PlannedPart:
    """One part of a profile before it is measured: `request` is all that its facts depend on but the device."""

    name: str
    """`throughput/S-16-224px-batch16-infer`; see `profile_store.Part`."""
    request: Mapping[str, Any]
    measure: Callable[[], Measurement]

    def is_within(self, name: str) -> bool:
        """Whether `name` is its own or that of a folder around it."""
        return self.name == name or self.name.startswith(f"{name.rstrip('/')}/")


@dataclass(frozen=True)
class ProfilePlan:
    """The profile of `device` over `workload`, each row of which may take `seconds`. With `full_tokens`, throughput has models
    with a class token also with all tokens in their last block.
    """

    workload: Workload
    device: Device
    seconds: float
    full_tokens: bool = False

    def parts(self, only: Sequence[str] = ()) -> list[PlannedPart]:
        """All parts, or those whose names or folders `only` holds; what takes longest comes last.

        Raises ValueError for a name that is none.
        """
        models = self.workload.models
        parts = [PlannedPart("ceilings", {}, lambda: ({"ceilings": asdict(measure_ceilings(self.device))}, 0))]
        parts += [self._flops(model) for model in models]
        parts += [self._throughput(model, mode) for model in models for mode in FORWARDS]
        parts += [self._trace(model, mode) for model in models for mode in FORWARDS]
        for model in self.workload.contests:
            peers_by_pool = _peers_by_pool(model)
            parts += [
                self._contest(model, mode, pool, peers) for mode in FORWARDS for pool, peers in peers_by_pool.items()
            ]
        for name in only:
            if not any(part.is_within(name) for part in parts):
                names = [part.name for part in parts]
                known = dict.fromkeys([*(name.partition("/")[0] for name in names), *names])
                raise ValueError(f"only {name!r} is no part; use {', '.join(known)}")
        return [part for part in parts if not only or any(part.is_within(name) for name in only)]

    def _flops(self, model: ProfiledModel) -> PlannedPart:
        def measure_flops() -> Measurement:
            counts = cross_check(model.config(), device=torch.device("meta"), training=False)
            return {
                **asdict(counts.total()),
                "counters": list(counts.counters),
                "largest_difference": counts.difference,
                "parts": {name: asdict(part) for name, part in counts.parts.items()},
            }, 0

        request = {"variant": model.variant, "model": model.config().model_dump(mode="json")}
        return PlannedPart(f"flops/{model.slug}", request, measure_flops)

    def _throughput(self, model: ProfiledModel, mode: str) -> PlannedPart:
        compiles = self.workload.compiles
        ways = (False, True) if self.full_tokens and unread_macs(model.config()) else (False,)

        def measure_throughput() -> Measurement:
            precision = self.device.resolve_precision("auto")
            candidates = [
                _candidate(model, OURS, mode, precision=precision, compile=compile, full_tokens=full)
                for compile, full in product(compiles, ways)
            ]
            ceilings = measure_ceilings(self.device)
            results = measure(candidates, device=self.device, max_seconds=self.seconds, memory=True)
            return self._rows(results, ceilings)

        name = f"throughput/{model.slug}-batch{model.batch_size}-{mode}"
        request = {
            **_request(model, mode),
            "compile": list(compiles),
            **({"full_tokens": True} if len(ways) > 1 else {}),
        }
        return PlannedPart(name, request, measure_throughput)

    def _trace(self, model: ProfiledModel, mode: str) -> PlannedPart:
        def measure_trace() -> Measurement:
            precision = self.device.resolve_precision("auto")
            candidate = _candidate(model, OURS, mode, precision=precision, compile="off")
            breakdown = record(candidate, self.device, steps=TRACED_STEPS).analysis.breakdown
            # Without their names in every row, and in nanoseconds, which is what a trace counts in: a third of the size.
            rows = [
                [*astuple(replace(row, seconds=round(row.seconds, 9))), block_name(row.part), role_name(row.part)]
                for row in breakdown.rows
            ]
            return {
                "precision": precision,
                "compiled": False,
                "step_seconds": breakdown.step_seconds,
                "steps": breakdown.steps,
                "columns": [*(field.name for field in fields(Row)), "block", "role"],
                "rows": rows,
            }, 0

        name = f"traces/{model.slug}-batch{model.batch_size}-{mode}"
        return PlannedPart(name, {**_request(model, mode), "steps": TRACED_STEPS}, measure_trace)

    def _contest(self, model: ProfiledModel, mode: str, pool: str, peers: Sequence[str]) -> PlannedPart:
        settings = list(product(self.workload.contest_precisions, self.workload.contest_compiles))
        implementations = [OURS, *peers]

        def measure_contest() -> Measurement:
            candidates = [
                [
                    _candidate(model, name, mode, precision=precision, compile=compile, pool=pool)
                    for precision, compile in settings
                ]
                for name in implementations
            ]
            ceilings = measure_ceilings(self.device)
            heats, finals = hold_contest(candidates, device=self.device, max_seconds=self.seconds)
            facts, failed = self._rows(finals, ceilings)
            heat_facts = [
                {
                    "implementation": heat.candidate.implementation,
                    "precision": heat.candidate.precision,
                    "compiled": heat.candidate.compiled,
                    "cuda_graphs": heat.candidate.cuda_graphs,
                    "warmup": heat.warmup,
                    "samples": heat.samples,
                    "reason": heat.reason,
                }
                for heat in heats
            ]
            versions = {name: metadata.version(name) for name in LIBRARIES if find_spec(name.replace("-", "_"))}
            num_absent = len(implementations) - len(finals)
            return {"heats": heat_facts, **facts, "versions": versions}, num_absent + failed

        name = f"peers/{model.slug}-batch{model.batch_size}-{pool}-{mode}"
        request = {
            **_request(model, mode, pool=pool),
            "implementations": implementations,
            "settings": [list(setting) for setting in settings],
        }
        return PlannedPart(name, request, measure_contest)

    def _rows(self, results: Sequence[Result], ceilings: Ceilings) -> Measurement:
        rows = [throughput_row(result, ceilings, device=self.device.name) for result in results]
        return {"rows": rows, "ceilings": asdict(ceilings)}, sum(bool(row["reason"]) for row in rows)


def _candidate(
    model: ProfiledModel,
    implementation: str,
    mode: str,
    *,
    precision: str,
    compile: str,
    full_tokens: bool = False,
    **changes: Any,
) -> Candidate:
    return candidate_of(
        model.config(**changes),
        model.variant,
        implementation=implementation,
        mode=mode,
        precision=precision,
        compiled=compile != "off",
        batch_size=model.batch_size,
        cuda_graphs=compile == "graphs",
        full_tokens=full_tokens,
    )


def _peers_by_pool(model: ProfiledModel) -> dict[str, list[str]]:
    """The peers that have such a model with the class token (all), and with the mean of patches. None has those of timm."""
    peers_by_pool: dict[str, list[str]] = {}
    if isinstance(model.config(), TimmConfig):
        return peers_by_pool
    for pool, name in product(("cls", "gap"), PEERS):
        try:
            config = model.config(pool=pool)
            assert isinstance(config, ViTConfig), config
            check_peer(name, config)
        except ValueError:  # it has no such model; the table shows who took part
            continue
        peers_by_pool.setdefault(pool, []).append(name)
    return peers_by_pool


def _request(model: ProfiledModel, mode: str, **changes: Any) -> dict[str, Any]:
    return {
        "variant": model.variant,
        "model": model.config(**changes).model_dump(mode="json"),
        "mode": mode,
        "batch_size": model.batch_size,
    }
