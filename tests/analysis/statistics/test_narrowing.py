"""Is what pairing gains measured against the interval that the same runs would give unpaired?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.analysis import simulated_studies as simulated
from vitbench.analysis.statistics.narrowing import study_narrowing

ARM = {0: 0.912, 1: 0.905, 2: 0.921, 3: 0.899, 4: 0.917}
BASELINE = {0: 0.905, 1: 0.901, 2: 0.914, 3: 0.897, 4: 0.909, 5: 0.5}


@pytest.mark.against("scipy", "Welch's interval", "1e-9")
def test_ratio_of_half_widths_and_correlation_are_those_of_scipy():
    arm, baseline = list(ARM.values()), [BASELINE[seed] for seed in ARM]
    found = study_narrowing({"arm": ARM, "baseline": BASELINE}, baseline="baseline")
    tests = stats.ttest_rel(arm, baseline), stats.ttest_ind(arm, baseline, equal_var=False)
    paired, unpaired = (np.ptp(test.confidence_interval(0.95)) for test in tests)
    assert found.ratio == pytest.approx(paired / unpaired, rel=1e-9)
    assert found.correlation == pytest.approx(np.corrcoef(arm, baseline)[0, 1], rel=1e-9)
    assert (found.num_arms, found.num_seeds) == (1, (5, 5))


def test_pairing_narrows_by_what_is_shared_and_costs_degrees_of_freedom_where_nothing_is():
    # Variances of differences: 2(1 − shared) against 2. Quantiles of t on n − 1 and on 2n − 2 degrees of freedom.
    random = np.random.RandomState(0)
    for shared in (0.0, 0.5, 0.9):
        study = simulated.simulate_study(random, effects=[0.0] * 200, num_seeds=20, shared=shared)
        expected = (1 - shared) ** 0.5 * stats.t.ppf(0.975, 19) / stats.t.ppf(0.975, 38)
        found = study_narrowing(study, baseline="baseline")
        assert found.correlation == pytest.approx(shared, abs=0.15)
        # One baseline, drawn once, is in all 200 pairs.
        assert found.ratio == pytest.approx(expected, rel=0.25)
        assert (found.ratio > 1) == (shared == 0.0)


def test_pairs_without_a_spread_say_nothing():
    assert study_narrowing({"cls": {0: 0.8, 1: 0.7}, "gap": {0: 0.9, 1: 0.9}}, baseline="cls") is None
    assert study_narrowing({"cls": {0: 0.8}, "gap": {0: 0.9}}, baseline="cls") is None


def test_an_unknown_baseline_is_refused():
    with pytest.raises(ValueError, match="baseline 'map' is not among the arms; there are cls"):
        study_narrowing({"cls": {}}, baseline="map")
