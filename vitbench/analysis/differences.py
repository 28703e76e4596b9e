"""What several runs come to: a mean, its spread over seeds, and a difference between two arms, paired by seed.

Accuracies are fractions in [0, 1] here; percentage points appear only where something is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (ddof 1; None for one value) of n values."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary | None:
        """None where there is nothing to summarise."""
        values = list(values)
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences and its 95 % t-interval (None for fewer than two pairs)."""

    mean: float
    low: float | None
    high: float | None
    n: int


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """values − baseline over the seeds that both have, with a 95 % t-interval; None where they share no seed."""
    summary = Summary.of(values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys()))
    if summary is None:
        return None
    if summary.sd is None:
        return Difference(summary.mean, None, None, summary.n)
    from scipy.special import stdtrit  # not scipy.stats, which takes longer to load than the tables to write

    half = float(stdtrit(summary.n - 1, (1 + CONFIDENCE) / 2)) * summary.sd / math.sqrt(summary.n)
    return Difference(summary.mean, summary.mean - half, summary.mean + half, summary.n)
