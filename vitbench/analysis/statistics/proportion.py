"""How sure is a share of so few? The exact interval of a proportion."""

from __future__ import annotations

from vitbench.analysis.statistics.pairing import CONFIDENCE, Interval


def exact_interval(successes: float, others: float, *, confidence: float = CONFIDENCE) -> Interval:
    """Of a share, as fractions, by Clopper & Pearson 1934; halves, as of ties, stand between the whole numbers beside them."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, others + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, others, 1 - tail)) if others else 1.0
    return Interval(low, high)
