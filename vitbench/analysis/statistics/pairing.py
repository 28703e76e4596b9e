"""How far apart are two arms, seed by seed, and on how many test images does only one of them get it right?

Accuracies and differences are fractions in [0, 1]; percentage points appear only in texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
NO_SPREAD = 1e-9
"""Accuracies are multiples of 1 / images: what varies less than this varies by rounding alone."""


class Interval(NamedTuple):
    """Of a difference, as fractions."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


class Uncertainty(NamedTuple):
    """Of a mean."""

    standard_error: float
    """Above 0."""
    degrees_of_freedom: float


@dataclass(frozen=True)
class Estimate:
    """A mean and how uncertain it is, by Student's t; of several uncertainties, the largest counts."""

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
    """Arm minus baseline at each seed that both have; everything else follows from these values.

    Differences of differences fit as well: the interaction of two factors is one (`interactions.py`).
    """

    by_seed: Mapping[int, float]
    """At least one, by seed, ascending."""

    @classmethod
    def of(cls, arm: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
        """From accuracies by seed; None where no seed has both."""
        by_seed = {seed: arm[seed] - baseline[seed] for seed in sorted(arm.keys() & baseline.keys())}
        return cls(by_seed) if by_seed else None

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
    def standard_error(self) -> float | None:
        """None where there is nothing to test by: one pair, or differences that are equal at every seed."""
        return self.sd / math.sqrt(self.n) if self.sd else None

    @property
    def estimate(self) -> Estimate | None:
        """What t says over seeds: of the mean over all seeds, on this test set and no other.

        None without a standard error: equal differences would give an interval of no width, which promises too much.
        """
        if self.standard_error is None:
            return None
        return Estimate(self.mean, (Uncertainty(self.standard_error, self.n - 1),))

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """The t-interval over seeds; None without a standard error."""
        return None if self.estimate is None else self.estimate.interval(confidence)

    @property
    def p_value(self) -> float | None:
        """Two-sided, of the paired t-test that the mean over all seeds is 0; None without a standard error."""
        return None if self.estimate is None else self.estimate.p_value


class Disagreement(NamedTuple):
    """Test images that only one of two runs of one seed gets right (McNemar 1947)."""

    arm_only: int
    baseline_only: int

    @property
    def p_value(self) -> float:
        """Two-sided and exact: whether these two networks differ on new images. Of other seeds it says nothing."""
        from scipy.special import bdtr

        return min(1.0, 2 * float(bdtr(min(self), sum(self), 0.5)))


def disagreement(arm: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Disagreement:
    """From which test images each run gets right: bool [images] of one seed. Raises ValueError for unequal shapes."""
    _refuse_unequal(arm.shape, baseline.shape)
    return Disagreement(int((arm & ~baseline).sum()), int((baseline & ~arm).sum()))


def image_differences(arm: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> NDArray[np.int8]:
    """−1, 0 or 1 [seeds, images]: arm minus baseline, from which test images each gets right (bool, same shape).

    Row by row the same seed, column by column the same image. Raises ValueError for unequal shapes.
    """
    import numpy as np

    _refuse_unequal(arm.shape, baseline.shape)
    return arm.astype(np.int8) - baseline.astype(np.int8)


def _refuse_unequal(arm: tuple[int, ...], baseline: tuple[int, ...]) -> None:
    if arm != baseline:
        raise ValueError(
            f"correct bits have shape {arm} for the arm and {baseline} for the baseline; give both the same seeds and "
            "images"
        )


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    from scipy.special import stdtrit  # not scipy.stats, which takes longer to load than the tables to write

    return float(stdtrit(degrees_of_freedom, probability))
