"""Do two measurements put the same things in the same order, and how sure is that of few things?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

from vitbench.analysis.statistics.pairing import CONFIDENCE, Interval, sign_of, t_quantile

FEWEST_ITEMS = 3
"""Two things are one pair, of which every interval is all but empty of news."""
_MOST_SAMPLES, _FEWEST_SAMPLES, _PAIRS_AT_ONCE = 10_000, 2_000, 2_000_000


@dataclass(frozen=True)
class RankOrder:
    """Of every two things, whether both measurements put the same one first."""

    same: int
    """Pairs in the same order."""
    opposite: int
    net_by_item: tuple[int, ...]
    """Of each thing: with how many others it is in the same order, minus with how many in the opposite."""

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> RankOrder | None:
        """From one number of each thing by either measurement; None for fewer than three things."""
        if len(first) < FEWEST_ITEMS:
            return None
        items = [*zip(first, second, strict=True)]
        signs = [[sign_of(a - b) * sign_of(c - d) for b, d in items] for a, c in items]
        upper = [signs[row][column] for row, column in combinations(range(len(items)), 2)]
        return cls(upper.count(1), upper.count(-1), tuple(map(sum, signs)))

    @property
    def num_items(self) -> int:
        return len(self.net_by_item)

    @property
    def num_pairs(self) -> int:
        """Those too that one of the measurements does not tell apart."""
        return math.comb(self.num_items, 2)

    @property
    def tau(self) -> float:
        """Kendall's rank correlation (τ-a), from −1 to 1: the share of pairs in the same order minus that in the opposite."""
        return (self.same - self.opposite) / self.num_pairs

    @property
    def share(self) -> float:
        """Of pairs in the same order; a tie counts half."""
        return (1 + self.tau) / 2

    @cached_property
    def interval(self) -> Interval:
        """95 %, of τ: the things are a sample of all that could be measured. At each end the wider of two.

        1. Exact for few things, but not where many of them are alike: every τ at which neither so many pairs in the same order
           nor so few have a chance below 2.5 %, as Clopper & Pearson's interval has it for a share, where on some monotone
           scales both measurements are normal. Ranks do not depend on the scales. A tie counts against either end.
        2. For any distribution, but too narrow where nearly all pairs agree: Student's t of the jackknife over things
           (Arvesen 1969). The bootstrap over things is as narrow there, as it never holds 1.

        Coverage of both and of each: docs/statistics-checked.md.
        """
        exact, half = self.exact_interval, self.jackknife_half_width
        return Interval(min(exact.low, max(-1.0, self.tau - half)), max(exact.high, min(1.0, self.tau + half)))

    @property
    def exact_interval(self) -> Interval:
        low, high = _lowest_slope(self.num_items, self.same), -_lowest_slope(self.num_items, self.opposite)
        return Interval(*(2 / math.pi * math.atan(slope) for slope in (low, high)))

    @property
    def jackknife_half_width(self) -> float:
        n = self.num_items
        shares = [net / (n - 1) for net in self.net_by_item]
        spread = math.fsum((share - self.tau) ** 2 for share in shares)
        error = (
            2 / (n - 2) * math.sqrt((n - 1) / n * spread)
        )  # of pseudo-values 2 (n − 1) / (n − 2) × shares + a constant
        return t_quantile((1 + CONFIDENCE) / 2, n - 1) * error


@cache
def _lowest_slope(num_items: int, same: int) -> float:
    """tan(π τ / 2) below which so many pairs in the same order, or more, have a chance below 2.5 %.

    Of normal x and z, y = x sin α + z cos α has τ = 2 α / π with x (Greiner 1909), and a pair is in the same order where
    tan α > −Δz / Δx. So one sample tells, for every τ, how many pairs are in the same order: as many as lie below tan α.
    """
    import numpy as np

    if not same:
        return -math.inf
    num_pairs = math.comb(num_items, 2)
    at_once = max(1, _PAIRS_AT_ONCE // num_pairs)
    left = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, at_once))
    random, slopes = np.random.default_rng(0), []
    while left > 0:
        x, z = random.standard_normal((2, min(at_once, left), num_items))
        first, second = np.triu_indices(num_items, 1)
        turns = (z[:, second] - z[:, first]) / (x[:, first] - x[:, second])
        slopes.append(np.partition(turns, same - 1)[:, same - 1])
        left -= at_once
    return float(np.quantile(np.concatenate(slopes), (1 - CONFIDENCE) / 2, method="lower"))
