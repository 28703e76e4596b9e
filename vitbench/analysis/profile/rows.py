"""How is a measured row of a profile written, and what must be said beside it?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from vitbench.analysis.profile.profile import Profile, is_of_timm, model_label, pixels, ran, variant_of
from vitbench.analysis.writing.words import ABSENT, listed, significant
from vitbench.config import ModelConfig
from vitbench.costs.macs import unread_sentence
from vitbench.profiling.profile_store import Part


def rate_with_interval(row: Mapping[str, Any]) -> str:
    """`1,234 [1,200, 1,260]` images/s."""
    if not ran(row):
        return ABSENT
    low, high = row["images_per_second_interval"]
    return f"{significant(row['images_per_second'])} [{significant(low)}, {significant(high)}]"


def mfu_text(row: Mapping[str, Any]) -> str:
    """`93%`."""
    return f"{row['mfu']:.0%}" if ran(row) else ABSENT


def rounds_text(row: Mapping[str, Any]) -> str:
    """`32`, and `32 *` where the median did not settle."""
    return str(len(row["samples"])) + ("" if row["settled"] or not ran(row) else " *")


def identity_of(part: Part) -> dict[str, Any]:
    """Which part of which device's profile a row of raw numbers comes from."""
    environment, request = part.environment, part.request
    return {
        "device": environment["device"],
        "torch": environment["torch"],
        "threads": environment["threads"],
        "variant": variant_of(part),
        "image_size": pixels(part),
        "pool": request["model"].get("pool"),
        "mode": request["mode"],
        "batch_size": request["batch_size"],
    }


def raw_throughput(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's numbers, one to a column, without its samples."""
    low, high = row["images_per_second_interval"] or (None, None)
    names = ("latency_p50_ms", "latency_p99_ms", "macs", "mfu", "peak_memory_bytes", "settled")
    return {
        **{name: row[name] for name in ("implementation", "precision", "compiled", "images_per_second")},
        "images_per_second_ci95_low": low,
        "images_per_second_ci95_high": high,
        **{name: row[name] for name in names},
        "rounds": len(row["samples"]),
        "reason": row["reason"],
    }


def warnings_of(profile: Profile, kind: str) -> Iterator[str]:
    """What else the device was busy with meanwhile."""
    parts: dict[str, list[str]] = defaultdict(list)
    for part in profile.of(kind):
        warnings = {state["warning"] for row in part.facts["rows"] if (state := row.get("device_state"))}
        for warning in sorted(warnings - {""}):
            parts[warning].append(part.name)
    for warning, names in parts.items():
        yield f"While {listed(names)} was measured: {warning}."


def unread(profile: Profile, kind: str) -> Iterator[str]:
    """What images/s of models with a class token owe to tokens that are not computed."""
    models = TypeAdapter[ModelConfig](ModelConfig)
    if sentence := unread_sentence(
        {model_label(part): models.validate_python(part.request["model"]) for part in profile.of(kind)}
    ):
        yield f"{sentence} Peers compute all tokens." if kind == "peers" else sentence


def failed_parts(profile: Profile, kind: str) -> Iterator[str]:
    """Parts of a kind that could not be measured at all."""
    for part in profile.parts:
        if part.kind == kind and part.reason:
            yield f"{part.name} was not measured: {part.reason}."


def parts_of_timm(profile: Profile) -> Iterator[str]:
    """That the traced parts of timm's models are not ours."""
    models = dict.fromkeys(model_label(part) for part in profile.of("traces") if is_of_timm(part))
    if models:
        yield f"Parts of ours are not counted for models of timm, but timm's own modules by name: {'; '.join(models)}."


def counts_of_timm(profile: Profile) -> Iterator[str]:
    """That the parts of timm's models have no closed form."""
    models = {model_label(part): part.facts["counters"] for part in profile.of("flops") if is_of_timm(part)}
    for counters in dict.fromkeys(map(tuple, models.values())):
        names = "; ".join(name for name, counts in models.items() if tuple(counts) == counters)
        yield f"Not counted part by part in closed form for models of timm; {' and '.join(counters)} agree: {names}."


def left_out(profile: Profile) -> list[str]:
    """Notes on parts of other environments, which may not stand beside the rest."""
    others: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for part in profile.left_out:
        others[part.environment["torch"], part.environment["threads"], part.environment["machine"]].append(part.name)
    return [
        f"Left out, measured with torch {torch} and {threads} threads on machine {machine}: {listed(names)}."
        for (torch, threads, machine), names in others.items()
    ]
