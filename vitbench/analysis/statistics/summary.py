"""What several runs come to: a mean, and its spread over seeds. Accuracies are fractions in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev


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
