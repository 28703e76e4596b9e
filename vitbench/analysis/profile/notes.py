"""What must be known beside a profile's numbers: what could not be measured, what disturbed it, what is left out?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from vitbench.analysis.profile.profile import Profile, is_of_timm, model_label, rows_of
from vitbench.analysis.writing.words import listed
from vitbench.config import ModelConfig
from vitbench.costs.macs import unread_sentence
from vitbench.text import counted


def warnings_of(profile: Profile, kind: str) -> Iterator[str]:
    """Other work of the device while parts were measured."""
    parts: dict[str, list[str]] = defaultdict(list)
    for part in profile.of(kind):
        warnings = {row.device_state["warning"] for row in rows_of(part) if row.device_state}
        for warning in sorted(warnings - {""}):
            parts[warning].append(part.name)
    for warning, names in parts.items():
        yield f"While {listed(names)} was measured: {warning}."


def unread(profile: Profile, kind: str) -> Iterator[str]:
    """How much of the counted arithmetic models with a class token leave out."""
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
    """Which models have parts of other names."""
    models = dict.fromkeys(model_label(part) for part in profile.of("traces") if is_of_timm(part))
    if models:
        yield f"Models of timm have timm's names of modules in place of our parts: {'; '.join(models)}."


def counts_of_timm(profile: Profile) -> Iterator[str]:
    """Which models are counted as a whole, and by what."""
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
        f"Left out, measured with torch {torch} and {counted(threads, 'thread')} on machine {machine}: {listed(names)}."
        for (torch, threads, machine), names in others.items()
    ]
