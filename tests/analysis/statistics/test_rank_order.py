"""Is the order that two measurements share counted right, and does its interval hold the truth as often as it says?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.analysis.simulated_orders import ORDERS, held, true_tau
from vitbench.analysis.statistics.rank_order import RankOrder

CHEAP, DEAR = (0.4, -3.9, 1.5, 0.2, 5.2, -0.6, 0.9, 0.1), (0.9, -2.1, 1.1, 0.8, 0.2, -0.4, 1.3, -0.2)


def test_pairs_are_those_counted_by_hand():
    """Of 1, 2, 3, 4 in the order 2, 1, 3, 3: 12 is turned, 34 tied, the other four stay."""
    order = RankOrder.of((1, 2, 3, 4), (2, 1, 3, 3))
    assert (order.same, order.opposite, order.num_pairs) == (4, 1, 6)
    assert order.net_by_item == (1, 1, 2, 2)
    assert order.tau == pytest.approx(0.5)


@pytest.mark.against("scipy", "Kendall's rank correlation of eight arms", "rounding")
def test_rank_correlation_is_scipys():
    assert RankOrder.of(CHEAP, DEAR).tau == pytest.approx(stats.kendalltau(CHEAP, DEAR).statistic)


@pytest.mark.against(
    "SciPy", "exact intervals of rank order against exact p-values, all 29 counts of 8 things", "the same side of 5 %"
)
def test_the_exact_ends_leave_out_0_where_the_exact_test_does():
    """At τ = 0 every order of 8 has the same chance, and the number of pairs that agree has Kendall's distribution."""
    for inversions in range(29):
        order, left = [], list(range(8))
        for position in range(7, -1, -1):  # Lehmer's code: so many inversions
            step = min(position, inversions)
            inversions -= step
            order.append(left.pop(step))
        p_value = stats.kendalltau(range(8), order, method="exact").pvalue
        low, high = RankOrder.of(range(8), order).exact_interval
        assert (low > 0 or high < 0) == (p_value < 0.05), order


def test_the_jackknife_is_that_of_leaving_each_thing_out():
    n, tau = 8, stats.kendalltau(CHEAP, DEAR).statistic
    without = [stats.kendalltau(np.delete(CHEAP, i), np.delete(DEAR, i)).statistic for i in range(n)]
    pseudo_values = n * tau - (n - 1) * np.array(without)
    half = stats.t.ppf(0.975, n - 1) * pseudo_values.std(ddof=1) / math.sqrt(n)
    assert RankOrder.of(CHEAP, DEAR).jackknife_half_width == pytest.approx(half)


def test_all_pairs_alike_do_not_make_it_certain():
    """Below τ = 0.70, 28 of 28 pairs have a chance of 2.5 % at most."""
    same, turned = RankOrder.of(range(8), range(8)).interval, RankOrder.of(range(8), range(7, -1, -1)).interval
    assert same.high == 1 and 0.65 < same.low < 0.75
    assert (turned.low, turned.high) == pytest.approx((-same.high, -same.low))


def test_a_tie_is_sure_of_neither_side():
    """Three of six pairs alike and three ties: as wide as three alike and three turned would be at either end."""
    tied = RankOrder.of((1, 2, 3, 4), (1, 1, 1, 2)).interval
    assert tied.low < 0 and tied.high == 1


def test_of_two_things_nothing_is_said():
    assert RankOrder.of((1, 2), (1, 2)) is None


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        RankOrder.of((1, 2, 3), (1, 2))


@pytest.mark.parametrize("world", ORDERS)
def test_at_8_arms_it_holds_the_true_correlation_as_often_as_it_says(world):
    """95 % of studies; 94 % with the heaviest tails and where many arms do nothing. Of 1000, one standard error less."""
    at_least = 0.94 if "Cauchy" in world or "nothing" in world else 0.95
    assert held(world, 8, 1000)[-1] >= at_least - 0.01


def test_the_truth_that_is_held_is_greiners():
    assert true_tau("normal, correlation 0.6") == pytest.approx(2 / math.pi * math.asin(0.6), abs=0.005)
