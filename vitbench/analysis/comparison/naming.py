"""What comparisons are called, in titles and in file names, so that no two are called alike."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.config import TrainConfig
from vitbench.records import Design, Record
from vitbench.studies.budgets import CUSTOM
from vitbench.studies.match import MATCHES
from vitbench.studies.settings import RATE

MOST_IN_SLUG = 120
"""Characters; file systems take 255 bytes in a name."""


def slug_of(record: Record, design: Design) -> str:
    """Budget and data; variant and epochs of single runs; what is matched and tuned if not epochs and the learning rate."""
    match = [] if design.match == "epochs" else [design.match]
    single = [record.variant, f"{record.config.train.epochs:g}-epochs"] if record.budget == CUSTOM else []
    return _slug(record.budget, record.config.data.dataset, *single, *match, *design.tuned)


def title_of(record: Record, design: Design) -> str:
    """The same in words, with the study and its base variant."""
    parts = [f"{record.study}: {record.budget} budget", data_text(record.config.data.dataset), record.variant]
    if design.match != "epochs":
        parts.append(f"equal {MATCHES[design.match]}")
    if design.tuned:
        parts.append(f"{' and '.join(design.tuned)} tuned")
    return ", ".join(parts)


def data_text(dataset: str) -> str:
    """A data set's name for people: without the hash of a folder's content. Where that is two sets, say more."""
    return _CONTENT.sub("", dataset)


def distinct_names(datasets: Sequence[str]) -> dict[str, str]:
    """`data_text` of each; the whole name where two would be called alike."""
    texts = [data_text(dataset) for dataset in datasets]
    return {d: d if texts.count(text) > 1 else text for d, text in zip(datasets, texts, strict=True)}


_CONTENT = re.compile(r"@[0-9a-f]{8,}$")


def with_distinct_names(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Where slugs or titles clash, a hash is added to the slug and what differs to the title."""
    by_slug: dict[str, list[Comparison]] = defaultdict(list)
    by_title: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        by_slug[comparison.slug].append(comparison)
        by_title[comparison.title].append(comparison)
    named = []
    for comparison in comparisons:
        slug, title = comparison.slug, comparison.title
        # All that clash get the hash, so that a name does not depend on which was recorded first.
        if len(by_slug[slug]) > 1:
            slug = f"{slug}-{digest([comparison.budget, comparison.variant, _circumstances(comparison)])[:6]}"
        if len(by_title[title]) > 1:
            others = [_circumstances(other) for other in by_title[title]]
            differing = [
                f"{name} {value}"
                for name, value in _circumstances(comparison).items()
                if any(other[name] != value for other in others)
            ]
            title = f"{title} ({', '.join(differing)})"
        named.append(replace(comparison, slug=slug, title=title))
    return named


def _circumstances(comparison: Comparison) -> dict[str, Any]:
    """Everything but budget and variant that must be equal within a comparison, by the name it has in titles."""
    environment = comparison.environment
    return {
        "device": environment.device,
        "machine": environment.machine,
        "precision": environment.precision,
        "compiled": environment.compiled,
        "torch": environment.torch,
        "timm": environment.timm,
        "data hash": environment.data_sha256[:16],
        "kernels": environment.kernels.partition(":")[0],
        "harness version": comparison.harness_version,
        **{
            name: value
            for name, value in comparison.data.model_dump(mode="json").items()
            if name not in comparison.design.tuned
        },
        **_crops(comparison),
        # What was asked for, against what it became above.
        **{
            f"{name} asked for" if name in ("precision", "compile") else name: value
            for name, value in _recipe(comparison).items()
        },
    }


def _crops(comparison: Comparison) -> dict[str, Any]:
    """Where images of several sizes have several paddings, all of them."""
    padding = sorted({record.config.data.crop_padding for record in comparison.records})
    return {"crop_padding": f"{padding[0]} to {padding[-1]}"} if len(padding) > 1 else {}


def _recipe(comparison: Comparison) -> dict[str, Any]:
    fields = (name for name in TrainConfig.model_fields if name not in (RATE, *comparison.design.tuned))
    return {name: getattr(comparison.train, name) for name in fields} | {"epochs": comparison.epochs}


def digest(value: Any) -> str:
    """Of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _slug(*words: str) -> str:
    """Of letters, digits, dots and dashes; cut, and told apart by a hash, where a file of that name could not be."""
    slug = re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.") or "comparison"
    return slug if len(slug) <= MOST_IN_SLUG else f"{slug[:MOST_IN_SLUG].rstrip('-.')}-{digest(words)[:8]}"
