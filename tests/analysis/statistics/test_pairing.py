"""Are paired differences, their intervals and tests what scipy and statsmodels make of the same numbers?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from vitbench.analysis.statistics.pairing import PairedDifference

ARM = {0: 0.912, 1: 0.905, 2: 0.921, 3: 0.899, 4: 0.917}
BASELINE = {4: 0.909, 3: 0.897, 2: 0.914, 1: 0.908, 0: 0.905, 7: 0.1}
"""Seeds in another order, and one that the arm lacks."""


def values():
    return [ARM[seed] for seed in ARM], [BASELINE[seed] for seed in ARM]


def test_differences_are_taken_seed_by_seed_over_the_seeds_that_both_have():
    difference = PairedDifference.of(ARM, BASELINE)
    assert list(difference.by_seed) == [0, 1, 2, 3, 4]
    assert difference.by_seed[1] == pytest.approx(-0.003)
    assert difference.mean == pytest.approx(0.0042)  # (7 − 3 + 7 + 2 + 8) / 5 thousandths
    assert difference.sd == pytest.approx(np.std([0.007, -0.003, 0.007, 0.002, 0.008], ddof=1))


@pytest.mark.against("scipy", "paired t-test and t-interval", "1e-12")
def test_interval_and_p_value_are_those_of_scipys_paired_t_test():
    difference, expected = PairedDifference.of(ARM, BASELINE), stats.ttest_rel(*values())
    assert difference.estimate.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    for confidence in (0.95, 0.9):
        assert difference.interval(confidence) == pytest.approx(
            tuple(expected.confidence_interval(confidence)), rel=1e-12
        )


@pytest.mark.against("statsmodels", "two one-sided t-tests of equivalence", "1e-12")
@pytest.mark.parametrize("margin", [0.001, 0.005, 0.02])
def test_equivalence_is_statsmodels_two_one_sided_tests(margin):
    arm, baseline = values()
    for one, other in ((arm, baseline), (baseline, arm)):
        difference = PairedDifference(dict(enumerate(np.subtract(one, other).tolist())))
        expected = ttost_paired(np.array(one), np.array(other), -margin, margin)[0]
        assert difference.estimate.equivalence_p_value(margin) == pytest.approx(expected, rel=1e-12)


def test_equivalence_at_5_percent_is_a_90_percent_interval_within_the_margin():
    low, high = PairedDifference.of(ARM, BASELINE).interval(0.9)
    reach = max(-low, high)
    difference = PairedDifference.of(ARM, BASELINE)
    assert (
        difference.estimate.equivalence_p_value(reach * 1.0001)
        < 0.05
        < difference.estimate.equivalence_p_value(reach * 0.9999)
    )


def test_one_pair_has_a_difference_and_nothing_to_test_it_by():
    difference = PairedDifference.of({3: 0.91}, {3: 0.90})
    assert difference.mean == pytest.approx(0.01)
    assert (difference.sd, difference.interval(), difference.estimate) == (None, None, None)


def test_equal_differences_have_no_interval_rather_than_one_of_no_width():
    # 0.91 − 0.90 and 0.35 − 0.34 differ by rounding alone.
    difference = PairedDifference.of({0: 0.91, 1: 0.35, 2: 0.71}, {0: 0.90, 1: 0.34, 2: 0.70})
    assert len(set(difference.by_seed.values())) > 1
    assert difference.sd == 0.0
    assert (difference.interval(), difference.estimate) == (None, None)


def test_arms_without_a_common_seed_have_no_difference():
    assert PairedDifference.of({0: 0.9}, {1: 0.9}) is None
