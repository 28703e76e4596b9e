"""How often does an arm beat the baseline at the same seed? (Bouthillier et al. 2021, section 4 and appendix C)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitbench.analysis.statistics.pairing import CONFIDENCE, Interval
from vitbench.analysis.statistics.proportion import exact_interval

MEANINGFUL = 0.75
"""Their γ: an arm that wins three times in four."""
FEWEST_FOR_BOOTSTRAP = 10


@dataclass(frozen=True)
class Outperforming:
    """P(arm > baseline) over paired seeds; a tie counts half."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def of(cls, arm: Mapping[int, float], baseline: Mapping[int, float]) -> Outperforming | None:
        """From accuracies by seed; None where no seed has both."""
        pairs = [(arm[seed], baseline[seed]) for seed in arm.keys() & baseline.keys()]
        if not pairs:
            return None
        wins = sum(mine > theirs for mine, theirs in pairs)
        losses = sum(mine < theirs for mine, theirs in pairs)
        return cls(wins, len(pairs) - wins - losses, losses)

    @property
    def n(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def probability(self) -> float:
        return (self.wins + self.ties / 2) / self.n

    def interval(self) -> Interval:
        """95 %: the percentile bootstrap of the pairs; Clopper & Pearson's exact interval, ties as half a win, of few pairs or
        of pairs that all agree, as resampling these gives back what was put in.
        """
        import numpy as np

        tail = (1 - CONFIDENCE) / 2
        if self.n < FEWEST_FOR_BOOTSTRAP or self.n in (self.wins, self.ties, self.losses):
            return exact_interval(self.wins + self.ties / 2, self.losses + self.ties / 2)
        # Without drawing: the mean of n resampled pairs has the n-fold convolution of one pair's distribution.
        of_a_pair = np.array([self.losses, self.ties, self.wins]) / self.n
        below = np.cumsum(np.polynomial.polynomial.polypow(of_a_pair, self.n, maxpower=None))
        # Rounding must not move a quantile that falls on a step.
        low, high = np.searchsorted(below, [tail - 1e-12, 1 - tail - 1e-12]) / (2 * self.n)
        return Interval(float(low), float(high))

    @property
    def reading(self) -> str:
        """Their three cases: the lower bound against 1/2, then the upper bound against γ.

        It is about outperforming alone: an arm that always loses is 'not significant' too.
        """
        low, high = self.interval()
        if low <= 0.5:
            return "not significant"
        return "significant and meaningful" if high > MEANINGFUL else "significant, not meaningful"
