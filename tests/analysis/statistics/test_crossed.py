"""Do intervals over seeds and test images hold the truth as often as they say, and are their parts right?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.analysis import simulated_studies as simulated
from vitbench.analysis.statistics.crossed import CrossedDifference
from vitbench.analysis.statistics.pairing import PairedDifference


def sample(num_seeds=5, num_images=200, world="both matter", seed=0):
    correct, _ = simulated.WORLDS[world].sample(
        np.random.RandomState(seed), gaps=[0.3], num_seeds=num_seeds, num_images=num_images
    )
    return correct[1].astype(np.int8) - correct[0]


@pytest.mark.against("statsmodels", "mean squares of a two-way layout", "1e-9")
def test_mean_squares_are_those_of_a_two_way_analysis_of_variance():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    differences = sample(num_seeds=4, num_images=30)
    seeds, images = np.indices(differences.shape)
    rows = pd.DataFrame({"d": differences.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    table = anova_lm(ols("d ~ C(seed) + C(image)", rows).fit())
    expected = (table["sum_sq"] / table["df"]).to_list()
    crossed = CrossedDifference.of(differences)
    found = [crossed.seed_mean_square, crossed.image_mean_square, crossed.rest_mean_square]
    assert found == pytest.approx(expected, rel=1e-9)
    assert crossed.mean == pytest.approx(differences.mean())


def test_where_images_add_nothing_the_interval_is_the_one_over_seeds():
    # Seed by seed all images differ alike: −, 0 or + on each.
    differences = np.repeat(np.array([[1], [0], [0], [-1], [1]], np.int8), 50, axis=1)
    by_seed = PairedDifference(dict(enumerate(differences.mean(axis=1).tolist())))
    assert CrossedDifference.of(differences).estimate.interval() == pytest.approx(by_seed.interval())


def test_where_seeds_agree_the_interval_is_that_of_a_mean_over_images():
    row = np.array([1] * 30 + [0] * 60 + [-1] * 10, np.int8)
    low, high = CrossedDifference.of(np.stack([row] * 4)).estimate.interval()
    assert (low, high) == pytest.approx(stats.ttest_1samp(row.astype(float), 0).confidence_interval(0.95), rel=1e-9)


@pytest.mark.parametrize("world", simulated.WORLDS)
def test_new_images_never_make_an_interval_narrower(world):
    for seed in range(20):
        differences = sample(num_seeds=3, world=world, seed=seed)
        over_seeds = PairedDifference(dict(enumerate(differences.mean(axis=1).tolist()))).interval()
        over_both = CrossedDifference.of(differences).estimate.interval()
        assert over_both.half_width >= over_seeds.half_width * (1 - 1e-9)


def test_all_variance_is_from_images_where_seeds_agree_and_none_where_images_do():
    row = np.array([1] * 30 + [0] * 60 + [-1] * 10, np.int8)
    assert CrossedDifference.of(np.stack([row] * 4)).image_share == 1.0
    assert CrossedDifference.of(np.repeat(np.array([[1], [0], [-1]], np.int8), 50, axis=1)).image_share == 0.0


def test_the_share_from_images_by_hand():
    # Sums of squares about the mean 3/8: all 15/8; seeds (sums 1, 2) 1/8; images (sums 2, 0, 1, 0) 11/8; the rest 3/8.
    # Mean squares by 1, 3 and 3 degrees of freedom: 1/8, 11/24, 1/8. Images beyond the rest: 1/3, to 1/8 of seeds.
    crossed = CrossedDifference.of(np.array([[1, 0, 0, 0], [1, 0, 1, 0]], np.int8))
    assert crossed.image_share == pytest.approx((1 / 3) / (1 / 3 + 1 / 8))


def test_a_spread_over_seeds_below_one_test_image_counts_as_one_image():
    # Nothing differs: t(2) at 0.975 is 4.303, of one image in 20 over √3.
    same = CrossedDifference.of(np.zeros((3, 20), np.int8))
    assert same.image_share is None
    assert tuple(same.estimate.interval()) == pytest.approx((-0.05 * 4.30265 / 3**0.5, 0.05 * 4.30265 / 3**0.5))
    # One image more at every seed, another each time: sums of squares leave seeds no spread at all.
    crossed = CrossedDifference.of(np.eye(3, 20, dtype=np.int8))
    assert crossed.seed_variance == 0.0
    assert crossed.estimate.p_value == pytest.approx(2 * stats.t.sf(3**0.5, 2))


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="1 seeds × 20 images have no spread; give at least two of each"):
        CrossedDifference.of(np.zeros((1, 20), np.int8))


STUDIES = 400


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("world", simulated.WORLDS)
def test_95_percent_intervals_hold_the_truth_in_95_percent_of_studies(world, num_seeds):
    found = simulated.coverage(STUDIES, simulated.WORLDS[world], num_seeds=num_seeds, num_images=300)
    low, high = simulated.within(STUDIES, 0.95)
    assert low <= found["seeds"] <= high
    low, high = simulated.within(STUDIES, 0.93, 0.97)
    assert low <= found["seeds and images"] <= high
