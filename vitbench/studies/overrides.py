"""What does the command line set in place of the values of budget and study?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitbench.studies.looks import Until


@dataclass(frozen=True)
class Overrides:
    """None and empty keep what budget and study say."""

    variant: str | None = None
    recipe: str | None = None
    """A name of `recipes.RECIPES`: it brings what the budget and the data set would, but for their size."""
    arms: tuple[str, ...] = ()
    """Names of the arms that are run beside the baseline; empty: all."""
    seeds: int | None = None
    until: Until = None
    """None for what the study says."""
    max_seeds: int | None = None
    """Of a study that adds seeds until it is settled."""
    train: dict[str, Any] | None = None
    train_images: int | None = None
    learning_rates: tuple[float, ...] = ()
    tuning_seeds: int | None = None
    extend: int | None = None
    tune: Mapping[str, Sequence[float]] = field(default_factory=dict)
    match: str = "epochs"
    evaluate: tuple[str, ...] | None = None
    """Names of distortions; empty for none."""
    metric: str | None = None
