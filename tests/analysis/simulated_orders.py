"""Arms with a known rank correlation of a short and a long ablation: how often does its interval hold that?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vitbench.analysis.statistics.rank_order import RankOrder

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Differences in the short and in the long ablation, [samples, arms]."""
Draw = Callable[[np.random.Generator, tuple[int, int]], Pair]


def normal(random: np.random.Generator, shape: tuple[int, int], *, rho: float) -> Pair:
    x = random.standard_normal(shape)
    return x, rho * x + math.sqrt(1 - rho**2) * random.standard_normal(shape)


def heavy(random: np.random.Generator, shape: tuple[int, int], *, rho: float, degrees: int) -> Pair:
    x, y = normal(random, shape, rho=rho)
    scale = np.sqrt(random.chisquare(degrees, shape) / degrees)
    return x / scale, y / scale


def mostly_nothing(random: np.random.Generator, shape: tuple[int, int], *, share: float, rho: float) -> Pair:
    """Some arms do nothing, the others do much; both are seen through the spread of seeds."""
    does_nothing = random.random(shape) < share
    x, y = (np.where(does_nothing, 0, 5 * values) for values in normal(random, shape, rho=rho))
    return x + 0.5 * random.standard_normal(shape), y + 0.5 * random.standard_normal(shape)


ORDERS: Mapping[str, Draw] = {
    "normal, not correlated": partial(normal, rho=0.0),
    "normal, correlation 0.6": partial(normal, rho=0.6),
    "normal, correlation 0.97": partial(normal, rho=0.97),
    "t with 3 degrees of freedom, correlation 0.6": partial(heavy, rho=0.6, degrees=3),
    "Cauchy, not correlated": partial(heavy, rho=0.0, degrees=1),
    "half of the arms do nothing": partial(mostly_nothing, share=0.5, rho=0.9),
    "70 % of the arms do nothing": partial(mostly_nothing, share=0.7, rho=1.0),
}


def true_tau(world: str) -> float:
    """Of two new arms, how much more often the order is the same than the opposite: of 400,000 pairs of arms."""
    x, y = ORDERS[world](np.random.default_rng(1), (400_000, 2))
    return float(np.sign((x[:, 0] - x[:, 1]) * (y[:, 0] - y[:, 1])).mean())


def held(world: str, num_arms: int, studies: int) -> tuple[float, float, float]:
    """The share of studies whose interval holds the true τ: exact alone, jackknife alone, and both as they are combined."""
    true, counts = true_tau(world), [0, 0, 0]
    for x, y in zip(*ORDERS[world](np.random.default_rng(7), (studies, num_arms)), strict=True):
        order = RankOrder.of(x, y)
        assert order is not None
        counts[0] += order.exact_interval.low <= true <= order.exact_interval.high
        counts[1] += abs(order.tau - true) <= order.jackknife_half_width
        counts[2] += order.interval.low <= true <= order.interval.high
    return counts[0] / studies, counts[1] / studies, counts[2] / studies
