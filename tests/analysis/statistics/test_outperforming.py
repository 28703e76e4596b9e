"""Is P(arm > baseline) counted right, and is its interval the bootstrap's where that means something?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vitbench.analysis.statistics.outperforming import Outperforming


def test_wins_ties_and_losses_are_counted_over_common_seeds():
    found = Outperforming.of({0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 9: 1.0}, {0: 0.8, 1: 0.8, 2: 0.8, 3: 0.5, 8: 0.0})
    assert found == Outperforming(wins=2, ties=1, losses=1)
    assert found.probability == 0.625
    assert Outperforming.of({0: 0.9}, {1: 0.9}) is None


@pytest.mark.against("scipy", "Clopper & Pearson's interval", "1e-9")
@pytest.mark.parametrize(("wins", "n"), [(5, 5), (0, 5), (3, 5), (8, 9), (30, 30)])
def test_few_pairs_and_pairs_that_all_agree_get_clopper_and_pearsons_interval(wins, n):
    found = Outperforming(wins=wins, ties=0, losses=n - wins)
    expected = stats.binomtest(wins, n).proportion_ci(0.95, method="exact")
    assert found.interval() == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.against("scipy", "percentile bootstrap of paired wins", "1/n")
@pytest.mark.parametrize("counts", [(7, 0, 3), (12, 4, 4), (20, 0, 9), (25, 1, 3)])
def test_from_ten_pairs_on_it_is_scipys_percentile_bootstrap_to_one_step(counts):
    wins, ties, losses = counts
    found = Outperforming(*counts)
    scores = np.array([1.0] * wins + [0.5] * ties + [0.0] * losses)
    drawn = stats.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.interval() == pytest.approx((drawn.low, drawn.high), abs=0.5 / found.n + 1e-9)


def test_without_ties_the_bootstrap_is_a_binomial():
    found = Outperforming(wins=21, ties=0, losses=8)
    expected = stats.binom.ppf([0.025, 0.975], 29, 21 / 29) / 29
    assert found.interval() == pytest.approx(expected)


def test_five_wins_in_five_are_not_significant_and_six_in_six_are():
    # Two-sided at 5 %: 2 / 2^5 = 6.25 %, 2 / 2^6 = 3.1 %.
    assert Outperforming(5, 0, 0).reading == "not significant"
    assert Outperforming(6, 0, 0).reading == "significant and meaningful"


def test_many_narrow_wins_are_significant_and_not_meaningful():
    assert Outperforming(1200, 0, 800).reading == "significant, not meaningful"
    assert Outperforming(15, 0, 14).reading == "not significant"
