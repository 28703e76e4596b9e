"""How far apart are two arms, seed by seed, and how sure is that? Accuracies and differences are fractions in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

CONFIDENCE = 0.95
NO_SPREAD = 1e-9
"""Accuracies are multiples of 1 / images. A smaller spread than this is rounding."""


class Interval(NamedTuple):
    """Of a difference, as fractions."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def with_zero(self) -> Interval:
        """As wide as it must be to hold 0."""
        return Interval(min(0.0, self.low), max(0.0, self.high))

    def on_the_side_of(self, mean: float) -> Interval:
        """What of it has the sign of the mean."""
        return Interval(max(0.0, self.low), self.high) if mean > 0 else Interval(self.low, min(0.0, self.high))


class Uncertainty(NamedTuple):
    """Of a mean."""

    standard_error: float
    """Above 0."""
    degrees_of_freedom: float


@dataclass(frozen=True)
class Estimate:
    """A mean and its uncertainty by Student's t; of several uncertainties, the one that gives the widest interval counts."""

    mean: float
    uncertainties: tuple[Uncertainty, ...]
    """At least one."""

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Two-sided, about the mean."""
        half = max(t_quantile((1 + confidence) / 2, degrees) * error for error, degrees in self.uncertainties)
        return Interval(self.mean - half, self.mean + half)

    @cached_property
    def p_value(self) -> float:
        """Two-sided, that the true mean is 0: at most alpha exactly where the (1 − alpha) interval leaves out 0."""
        return 2 * self._largest_tail(abs(self.mean))

    def equivalence_p_value(self, margin: float) -> float:
        """The larger p of two one-sided t-tests (Schuirmann 1987) that the true mean lies outside ±margin.

        It is at most 0.05 exactly where the 90 % interval lies within ±margin.
        """
        return self._largest_tail(margin - abs(self.mean))

    def _largest_tail(self, distance: float) -> float:
        from scipy.special import stdtr

        return max(float(stdtr(degrees, -distance / error)) for error, degrees in self.uncertainties)


@dataclass(frozen=True)
class PairedDifference:
    """Arm minus baseline at each seed that both have. Interactions, which are differences of differences, are some too."""

    by_seed: Mapping[int, float]
    """At least one, by seed, ascending."""

    @classmethod
    def of(cls, arm: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
        """From accuracies by seed; None where no seed has both."""
        by_seed = {seed: arm[seed] - baseline[seed] for seed in sorted(arm.keys() & baseline.keys())}
        return cls(by_seed) if by_seed else None

    def below(self, seed: int) -> PairedDifference | None:
        """Of the seeds below this one; None where there is none."""
        by_seed = {at: value for at, value in self.by_seed.items() if at < seed}
        return PairedDifference(by_seed) if by_seed else None

    @property
    def n(self) -> int:
        return len(self.by_seed)

    @cached_property
    def mean(self) -> float:
        return fmean(self.by_seed.values())

    @cached_property
    def sd(self) -> float | None:
        """Sample standard deviation (ddof 1) over seeds; 0.0 where it is rounding alone, None for one pair."""
        if self.n < 2:
            return None
        sd = math.sqrt(math.fsum((value - self.mean) ** 2 for value in self.by_seed.values()) / (self.n - 1))
        return sd if sd > NO_SPREAD else 0.0

    @property
    def estimate(self) -> Estimate | None:
        """Of the mean over all seeds, on this test set, by t over seeds.

        None without a spread, that is for one pair or equal differences: an interval of no width would promise too much.
        """
        return Estimate(self.mean, (Uncertainty(self.sd / math.sqrt(self.n), self.n - 1),)) if self.sd else None

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """The t-interval over seeds; None without a spread."""
        return None if self.estimate is None else self.estimate.interval(confidence)


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    from scipy.special import stdtrit  # not scipy.stats, which takes longer to load than the tables to write

    return float(stdtrit(degrees_of_freedom, probability))
