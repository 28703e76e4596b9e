"""Does the error follow a power law of the size, and how steep is it? Fitted seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FURTHEST = 1.05
"""A fit that misses the mean error of one of its own arms by more than this ratio is no law: no slope is given for it."""


@dataclass(frozen=True)
class PowerLaw:
    """error = exp(intercept) · size ** −exponent, with the exponent's 95 % interval over seeds.

    `worst` is the largest ratio between an arm's mean error (geometric) and the law, 1 or more.
    """

    exponent: float
    low: float
    high: float
    intercept: float
    worst: float
    num_seeds: int

    @property
    def holds(self) -> bool:
        """Whether it passes by all of its own points within `FURTHEST`."""
        return self.worst <= FURTHEST

    @property
    def falls(self) -> bool:
        """Whether the error falls as the size grows, as far as the seeds tell."""
        return self.low > 0

    @property
    def is_drawn(self) -> bool:
        return self.holds and self.falls

    def error(self, size: float) -> float:
        return math.exp(self.intercept - self.exponent * math.log(size))


def fit_power_law(sizes: Sequence[float], errors: Mapping[int, Sequence[float]]) -> PowerLaw:
    """A straight line through log error over log size at every seed, by least squares; the mean line of the seeds.

    The interval is a t-interval over the seeds' exponents. Seeds are what varies: whether errors follow a power law at
    all, it does not know (`worst` does).
    """
    import numpy as np  # here, because tables without series must be fast
    from scipy import stats

    x = np.log(np.asarray(sizes, dtype=float))
    y = np.log(np.array([errors[seed] for seed in sorted(errors)], dtype=float))
    slopes, intercepts = np.polynomial.polynomial.polyfit(x, y.T, 1)[::-1]
    exponent, intercept = -float(slopes.mean()), float(intercepts.mean())
    half = stats.t.ppf(0.975, len(y) - 1) * slopes.std(ddof=1) / math.sqrt(len(y))
    off = np.abs(y.mean(axis=0) - (intercept - exponent * x))
    return PowerLaw(exponent, exponent - half, exponent + half, intercept, math.exp(float(off.max())), len(y))
