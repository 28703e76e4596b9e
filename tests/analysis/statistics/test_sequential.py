"""Do the intervals of all looks together miss as seldom as they say?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vitbench.analysis.statistics.pairing import t_quantile
from vitbench.analysis.statistics.sequential import (
    chance_of_crossing,
    nominal_level,
    nominal_levels,
    reached,
    repeated_interval,
)
from vitbench.studies.looks import LOOKS

POCOCK = {2: 2.178, 3: 2.289, 4: 2.361, 5: 2.413, 10: 2.555}
OBRIEN_FLEMING = {2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040, 10: 2.087}
"""Critical values of two-sided tests at 0.05 with so many equal groups and known variance: Jennison and Turnbull 2000, 'Group
Sequential Methods', Tables 2.1 and 2.3."""
LARGE = 20_000
"""Seeds of a group, so that t is normal."""


@pytest.mark.against("Jennison and Turnbull 2000", "constants of group sequential tests", "2 %")
@pytest.mark.parametrize("number", POCOCK)
def test_published_constants_keep_the_level_that_they_were_published_for(number):
    looks = [LARGE * look for look in range(1, number + 1)]
    equal = [2 * stats.norm.sf(POCOCK[number])] * number
    assert chance_of_crossing(looks, equal) == pytest.approx(0.05, rel=0.02)  # three digits of a constant
    falling = [2 * stats.norm.sf(OBRIEN_FLEMING[number] * math.sqrt(looks[-1] / look)) for look in looks]
    assert chance_of_crossing(looks, falling) == pytest.approx(0.05, rel=0.02)


def test_of_many_seeds_the_constants_are_those_of_lan_and_demets():
    """Error spent in proportion, five looks, two-sided 0.05: Lan and DeMets 1983, Table 1."""
    looks = tuple(LARGE * look for look in range(1, 6))
    constants = [stats.norm.isf(level / 2) for level in nominal_levels(looks, 0.05)]
    assert constants == pytest.approx([2.58, 2.49, 2.41, 2.34, 2.28], abs=0.006)


@pytest.mark.parametrize(("looks", "alpha"), [(LOOKS, 0.05), (LOOKS, 0.1), ((3, 4, 5, 6), 0.05), ((2, 9), 0.2)])
def test_paths_of_t_cross_at_each_look_as_often_as_its_share_of_alpha(looks, alpha):
    paths, random = 200_000, np.random.RandomState(0)
    draws = random.standard_normal((paths, looks[-1]))
    sums, squares = draws.cumsum(axis=1), (draws**2).cumsum(axis=1)
    alive, before = np.ones(paths, bool), 0
    for look, level in zip(looks, nominal_levels(looks, alpha), strict=True):
        mean = sums[:, look - 1] / look
        sd = np.sqrt((squares[:, look - 1] - look * mean**2) / (look - 1))
        crosses = alive & (np.abs(mean) * math.sqrt(look) / sd > t_quantile(1 - level / 2, look - 1))
        spent = alpha * (look - before) / looks[-1]
        low, high = stats.binom.ppf([0.0005, 0.9995], paths, spent)
        assert low <= crosses.sum() <= high, look
        alive, before = alive & ~crosses, look


def test_one_look_is_the_ordinary_test():
    assert nominal_levels((7,), 0.05) == pytest.approx((0.05,), rel=1e-9)
    differences = [0.1, 0.4, 0.2, 0.5, 0.1, 0.3, 0.2]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert repeated_interval(differences, looks=(7,)) == pytest.approx(tuple(expected), rel=1e-6)


def test_every_level_of_a_smaller_alpha_is_smaller():
    """Else an arm could be significant among four arms and not among three."""
    alphas = [0.05 / arms for arms in range(1, 13)]
    levels = np.array([nominal_levels(LOOKS, alpha) for alpha in alphas])
    assert (np.diff(levels, axis=0) < 0).all()


def test_the_interval_is_that_of_the_last_look_reached():
    differences = np.random.RandomState(1).normal(0.2, 1, 45).tolist()
    assert repeated_interval(differences[:4], looks=LOOKS) == (-math.inf, math.inf)
    assert repeated_interval(differences[:7], looks=LOOKS) == repeated_interval(differences[:5], looks=LOOKS)
    assert repeated_interval(differences, looks=LOOKS) == repeated_interval(differences[:40], looks=LOOKS)
    low, high = repeated_interval(differences[:12], looks=LOOKS)
    constant = t_quantile(1 - nominal_level(12, looks=LOOKS) / 2, 11)
    assert (high - low) / 2 == pytest.approx(constant * np.std(differences[:12], ddof=1) / math.sqrt(12))
    assert constant > 3  # of a single test: 2.2


def test_equal_differences_tell_nothing_by_themselves():
    assert repeated_interval([0.3] * 8, looks=LOOKS) == (-math.inf, math.inf)


def test_looks_reached():
    assert [reached(n, LOOKS) for n in (0, 4, 5, 7, 8, 40, 99)] == [None, None, 5, 5, 8, 40, 40]


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 5), (8, 5), (5.0, 8.0)])
def test_looks_that_make_no_sense_are_refused(looks):
    nominal_levels((5, 8), 0.05)
    with pytest.raises(ValueError, match="ascending numbers of seeds"):
        nominal_levels(looks, 0.05)


def test_a_level_that_is_none_and_a_look_that_is_none_are_refused():
    with pytest.raises(ValueError, match="alpha 1 must be between 0 and 1"):
        repeated_interval([0.1] * 5, looks=(5,), alpha=1)
    with pytest.raises(ValueError, match="look 6 is none of the looks 5, 8"):
        nominal_level(6, looks=(5, 8))
