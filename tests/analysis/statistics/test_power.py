"""Do the seeds that are said to suffice suffice?"""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower, TTestPower

from tests.analysis import simulated_studies as simulated
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.power import (
    power_of_difference,
    power_of_equivalence,
    seeds_to_settle,
    smallest_difference,
)
from vitbench.analysis.statistics.verdicts import Verdict

UNPAIRED = {3: 3.07, 5: 2.02, 10: 1.32, 20: 0.91, 29: 0.75}
"""Seeds to the smallest gap found with 80 % power, in standard deviations of an arm, without pairing."""


@pytest.mark.against("statsmodels", "smallest gap found without pairing", "0.005 SD")
@pytest.mark.parametrize("num_seeds", UNPAIRED)
def test_pairing_alone_finds_about_what_unpaired_seeds_find_and_more_with_correlation(num_seeds):
    """Uncorrelated pairs have √2 of an arm's spread, and half the degrees of freedom to show for it."""
    unpaired = TTestIndPower().solve_power(nobs1=num_seeds, alpha=0.05, power=0.8)
    assert unpaired == pytest.approx(UNPAIRED[num_seeds], abs=0.005)
    uncorrelated = smallest_difference(2**0.5, num_seeds)
    assert unpaired < uncorrelated < 1.6 * unpaired
    correlation = 0.8
    assert smallest_difference((2 * (1 - correlation)) ** 0.5, num_seeds) < unpaired


@pytest.mark.against("statsmodels", "power of the paired t-test", "1e-6")
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
@pytest.mark.parametrize("num_seeds", [3, 5, 10, 30, 100])
def test_power_and_the_smallest_difference_are_those_of_statsmodels(num_seeds, alpha):
    effect = smallest_difference(0.01, num_seeds, alpha=alpha) / 0.01
    assert TTestPower().power(effect, num_seeds, alpha) == pytest.approx(0.8, abs=1e-5)
    for part in (0.0, 0.3, 1.0):
        expected = TTestPower().power(part * effect, num_seeds, alpha)
        for sign in (1, -1):
            found = power_of_difference(sign * 0.01 * part * effect, 0.01, np.array([num_seeds]), alpha=alpha)
            assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("effect", [0.0001, 0.01, 1.0])
def test_more_seeds_never_find_less(effect):
    seeds = np.arange(2, 101)
    assert (np.diff(power_of_difference(effect, 0.01, seeds)) > -1e-9).all()
    assert (np.diff(power_of_equivalence(0.0, effect, seeds)) > -1e-9).all()


def test_one_seed_finds_nothing_and_without_a_spread_nobody_knows():
    assert smallest_difference(1.0, 1) is None
    assert smallest_difference(0.0, 5) is None
    assert smallest_difference(None, 5) is None


STUDIES = 1000


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.008, 5), (0.004, 10), (0.010, 3)])
def test_simulated_studies_find_a_difference_as_often_as_predicted(effect, num_seeds):
    predicted = float(power_of_difference(effect, simulated.SD, np.array([num_seeds]))[0])
    shares = simulated.verdict_shares(STUDIES, effect=effect, num_seeds=num_seeds)
    low, high = simulated.within(STUDIES, predicted)
    assert low <= shares[Verdict.BETTER] <= high


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.0, 8), (0.001, 12), (-0.002, 20)])
def test_simulated_studies_show_equivalence_as_often_as_predicted(effect, num_seeds):
    predicted = float(power_of_equivalence(effect, simulated.SD, np.array([num_seeds]))[0])
    assert predicted > 0.5
    shares = simulated.verdict_shares(STUDIES, effect=effect, num_seeds=num_seeds)
    low, high = simulated.within(STUDIES, predicted)
    assert low <= shares["within"] <= high


def pair(mean, sd, n=5):
    """A difference with just this mean and standard deviation."""
    values = np.linspace(-1, 1, n)
    return PairedDifference(dict(enumerate((mean + sd * values / values.std(ddof=1)).tolist())))


def test_the_seeds_named_reach_the_power_and_one_less_does_not():
    found = seeds_to_settle(pair(0.02, 0.015), num_arms=4)
    assert found.shows == "a difference"
    before, at = power_of_difference(0.02, 0.015, np.array([found.num_seeds - 1, found.num_seeds]), alpha=0.05 / 4)
    assert before < 0.8 <= at


def test_more_arms_need_more_seeds_for_a_difference_and_no_more_for_equivalence():
    apart, close = pair(0.02, 0.015), pair(0.0, 0.006)
    assert seeds_to_settle(apart, num_arms=8).num_seeds > seeds_to_settle(apart, num_arms=1).num_seeds
    assert seeds_to_settle(close, num_arms=8) == seeds_to_settle(close, num_arms=1)
    assert seeds_to_settle(close, num_arms=1).shows == "equivalence"


def test_what_a_hundred_seeds_would_not_settle_has_no_number():
    assert seeds_to_settle(pair(0.005, 0.03), num_arms=4).num_seeds is None


def test_an_undecided_pair_needs_at_least_one_more_seed():
    assert seeds_to_settle(pair(0.02, 0.001, n=7), num_arms=1).num_seeds == 8


def test_without_a_spread_nothing_can_be_said():
    assert seeds_to_settle(PairedDifference({0: 0.01, 1: 0.01, 2: 0.01}), num_arms=1) is None
