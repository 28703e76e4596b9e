"""What comparisons are called, in titles and in file names, so that no two are called alike."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.config import DataConfig, TrainConfig
from vitbench.records import Design, Record
from vitbench.studies.budgets import CUSTOM
from vitbench.studies.match import MATCHES

MOST_IN_SLUG = 120
"""Characters; file systems take 255 bytes in a name."""


_USUAL = DataConfig().model_dump(mode="json") | TrainConfig().model_dump()


def slug_of(record: Record, design: Design) -> str:
    """Budget and data; variant and epochs of single runs; what is matched and tuned if not epochs and the learning rate."""
    match = [] if design.match == "epochs" else [design.match]
    single = [record.variant, f"{record.config.train.epochs:g}-epochs"] if record.budget == CUSTOM else []
    words = record.budget, record.config.data.dataset, *single, *match, *design.tuned
    slug = re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.") or "comparison"
    # Cut, and told apart by a hash, where a file of that name could not be.
    return slug if len(slug) <= MOST_IN_SLUG else f"{slug[:MOST_IN_SLUG].rstrip('-.')}-{digest(words)[:8]}"


def title_of(record: Record, design: Design) -> str:
    """The same in words, with the study and its base variant."""
    about = f"{study_words(record.study)} on {data_words(record.config.data.dataset)}"
    parts = [f"{about}: {record.budget} budget", record.variant]
    if design.match != "epochs":
        parts.append(f"equal {MATCHES[design.match]}")
    if design.tuned:
        parts.append(f"{' and '.join(design.tuned)} tuned")
    return ", ".join(parts)


STUDY_WORDS = {
    "pooling": "Pooling of tokens",
    "position": "Position embeddings",
    "patch_size": "Patch sizes",
    "hybrid": "Convolutional stems",
    "registers": "Register tokens",
    "position_pooling": "Position embeddings with each pooling",
    "data_size": "Amounts of training data",
    "scaling": "Scaling",
    "resolution": "Changes of image size",
    "recipe": "Parts of the recipe",
    "optimizer": "Optimizers",
    "robustness": "Robustness to distorted images",
    "train": "Single runs",
}
DATA_WORDS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
    "fashion_mnist": "Fashion-MNIST",
    "svhn": "SVHN",
    "stl10": "STL-10",
}


def study_words(study: str) -> str:
    """A study's name for people: `Position embeddings`; of a user's study `my_study`, `My study`."""
    words = re.sub(r"[_-]+", " ", study).strip() or study
    return STUDY_WORDS.get(study, words[0].upper() + words[1:])


def data_words(dataset: str) -> str:
    """A data set's name for people: `CIFAR-10`, `Fashion-MNIST`, `shapes (majority)`; a user's as it is, without a hash."""
    text = re.sub(r"@[0-9a-f]{8,}$", "", dataset)
    name, _, kind = text.partition("/")
    if name == "shapes" and kind:
        return f"{name} ({kind})"
    return DATA_WORDS.get(text.rpartition("/")[2].lower().replace("-", "_"), text)


def title_on_data(comparison: Comparison) -> str:
    """A comparison's title without the name of its study: `CIFAR-10: standard budget, Micro/4`."""
    return comparison.title.removeprefix(f"{study_words(comparison.study)} on ")


def distinct_names(datasets: Sequence[str]) -> dict[str, str]:
    """`data_words` of each; the whole name where two would be called alike."""
    texts = [data_words(dataset) for dataset in datasets]
    return {d: d if texts.count(text) > 1 else text for d, text in zip(datasets, texts, strict=True)}


def with_distinct_names(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Where slugs or titles clash, a hash is added to the slug and what differs to the title.

    All that clash get it, so that a name does not depend on which was recorded first.
    """
    slugs = Counter(comparison.slug for comparison in comparisons)
    plain = [(comparison.slug, _circumstances(comparison)) for comparison in comparisons]
    circumstances = [  # the same runs may stand in plans of two kinds
        facts | {"plan": digest(comparison.design.kind)[:6]} if plain.count((slug, facts)) > 1 else facts
        for comparison, (slug, facts) in zip(comparisons, plain, strict=True)
    ]
    by_title: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for comparison, facts in zip(comparisons, circumstances, strict=True):
        by_title[comparison.title].append(facts)
    named = []
    for comparison, facts in zip(comparisons, circumstances, strict=True):
        slug, title = comparison.slug, comparison.title
        if slugs[slug] > 1:
            # Without what is as usual, so that a field that a later version adds renames no file.
            unusual = {name: value for name, value in facts.items() if name not in _USUAL or value != _USUAL[name]}
            slug = f"{slug}-{digest([comparison.budget, comparison.variant, unusual])[:6]}"
        others = by_title[title]
        if len(others) > 1:
            differing = (name for name, value in facts.items() if any(other.get(name) != value for other in others))
            title = f"{title} ({', '.join(f'{name} {facts[name]}' for name in differing)})"
        named.append(replace(comparison, slug=slug, title=title))
    return named


def _circumstances(comparison: Comparison) -> dict[str, Any]:
    """Everything but budget and variant that must be equal within a comparison, by the name it has in titles."""
    environment, tuned = comparison.environment, comparison.design.tuned_fields
    data = {name: value for name, value in comparison.data.model_dump(mode="json").items() if name not in tuned}
    if len(paddings := comparison.crop_paddings) > 1:  # of images of several sizes
        data["crop_padding"] = f"{paddings[0]} to {paddings[-1]}"
    recipe = {name: getattr(comparison.train, name) for name in TrainConfig.model_fields if name not in tuned}
    # What was asked for, against what it became in the environment.
    asked = {f"{name} asked for" if name in ("precision", "compile") else name: value for name, value in recipe.items()}
    return {
        "device": environment.device,
        "machine": environment.machine,
        "precision": comparison.precision_text,
        "compiled": environment.compiled,
        "torch": environment.torch,
        "timm": environment.timm,
        "data hash": environment.data_sha256[:16],
        "kernels": environment.kernels.partition(":")[0],
        "harness version": comparison.harness_version,
        **data,
        **asked,
        "epochs": comparison.epochs,
    }


def digest(value: Any) -> str:
    """Of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
