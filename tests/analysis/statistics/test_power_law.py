"""Are power laws found where errors follow one, with intervals that hold?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vitbench.analysis.statistics.power_law import fit_power_law

SIZES = (1e9, 4e9, 3e10, 1e11)


def test_a_power_law_without_noise_is_found():
    errors = {seed: [(size / 2e8) ** -0.3 for size in SIZES] for seed in range(3)}
    law = fit_power_law(SIZES, errors)
    assert law.exponent == pytest.approx(0.3) and law.intercept == pytest.approx(0.3 * math.log(2e8))
    assert law.low == pytest.approx(0.3) and law.high == pytest.approx(0.3) and law.worst == pytest.approx(1)
    assert law.error(1e10) == pytest.approx((1e10 / 2e8) ** -0.3)


def test_each_seeds_line_is_that_of_scipy_and_the_interval_that_of_a_t_test():
    random = np.random.default_rng(0)
    errors = {
        seed: [0.5 * (size / 1e9) ** -0.2 * math.exp(random.normal(0, 0.05)) for size in SIZES] for seed in range(5)
    }
    slopes = [-stats.linregress(np.log(SIZES), np.log(errors[seed])).slope for seed in range(5)]
    interval = stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    law = fit_power_law(SIZES, errors)
    assert law.exponent == pytest.approx(np.mean(slopes))
    assert (law.low, law.high) == pytest.approx(tuple(interval))


def test_intervals_hold_in_simulated_studies():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        noise = random.normal(0, 0.05, size=(3, len(SIZES)))
        errors = {
            seed: [0.5 * (s / 1e9) ** -0.2 * math.exp(e) for s, e in zip(SIZES, noise[seed], strict=True)]
            for seed in range(3)
        }
        law = fit_power_law(SIZES, errors)
        held += law.low <= 0.2 <= law.high
    # 95 % of 2,000, within 4 standard deviations of a binomial's share.
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 2000) < held / 2000 < 0.95 + 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_what_bends_is_said_to_be_no_power_law():
    law = fit_power_law((1, 2, 4, 8), dict.fromkeys(range(3), (0.5, 0.25, 0.25, 0.25)))
    line = np.polyfit(np.log([1, 2, 4, 8]), np.log([0.5, 0.25, 0.25, 0.25]), 1)
    residuals = np.log([0.5, 0.25, 0.25, 0.25]) - np.polyval(line, np.log([1, 2, 4, 8]))
    assert law.worst == pytest.approx(math.exp(np.abs(residuals).max()))


def test_a_law_is_drawn_only_where_the_error_falls_as_far_as_seeds_tell():
    falling = fit_power_law([1, 2, 4], {0: (0.5, 0.4, 0.31), 1: (0.5, 0.39, 0.3), 2: (0.5, 0.41, 0.32)})
    rising = fit_power_law([1, 2, 4], {0: (0.3, 0.4, 0.51), 1: (0.3, 0.39, 0.5), 2: (0.3, 0.41, 0.52)})
    unsure = fit_power_law([1, 2, 4], {0: (0.5, 0.4, 0.3), 1: (0.3, 0.4, 0.5), 2: (0.4, 0.4, 0.39)})
    assert (falling.falls, rising.falls, unsure.falls) == (True, False, False)


@pytest.mark.parametrize("slope", [-5e-4, 0.0, 1e-3])
def test_what_hardly_changes_the_error_has_a_flat_law(slope):
    law = fit_power_law(SIZES, {seed: [0.2 * (size / 1e9) ** slope for size in SIZES] for seed in range(3)})
    assert law.exponent == pytest.approx(-slope, abs=1e-9) and law.error(1e9) == pytest.approx(0.2)
