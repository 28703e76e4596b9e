"""Does the rule give the verdict that it says, and as seldom a false one?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tests.analysis import simulated_studies as simulated
from vitbench.analysis.comparison.wording import verdict_text
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict, decide, holm


def difference(*points):
    """From percentage points by seed."""
    return PairedDifference({seed: value / 100 for seed, value in enumerate(points)})


def decision(*points, **options):
    return decide({"arm": difference(*points)}, **options)["arm"]


@pytest.mark.parametrize(
    ("by_seed", "verdict", "words"),
    [
        ((3.0, 3.1), Verdict.NONE, "no verdict"),  # two seeds, however clear
        ((0.4, 0.4, 0.4), Verdict.OPEN, "open"),  # no spread, and no images to test by
        ((3.0, 3.2, 2.9), Verdict.BETTER, "better"),
        ((-3.0, -3.2, -2.9), Verdict.WORSE, "worse"),
        ((0.20, 0.22, 0.19), Verdict.BETTER, "better, within 0.5 points"),
        ((0.1, -0.1, 0.05), Verdict.EQUIVALENT, "equivalent"),
        ((3.0, -1.0, 2.0), Verdict.OPEN, "open"),
    ],
)
def test_each_case_of_the_rule(by_seed, verdict, words):
    found = decision(*by_seed)
    assert found.verdict is verdict
    assert verdict_text(found) == words


def test_an_arm_without_a_common_seed_has_no_verdict():
    assert decide({"arm": None})["arm"].verdict is Verdict.NONE


def test_a_wider_margin_makes_equivalent_what_was_open():
    assert decision(0.9, 0.3, 0.0).verdict is Verdict.OPEN
    assert decision(0.9, 0.3, 0.0, margin=0.02).verdict is Verdict.EQUIVALENT


def test_a_difference_that_is_clear_by_itself_may_not_be_among_others():
    # p = 0.0244 of a t of 6.3 on two degrees of freedom.
    clear = difference(1.0, 1.5, 1.75)
    others = {f"other {i}": difference(1.0, -1.0, 0.1 * i) for i in range(3)}
    assert decide({"clear": clear})["clear"].verdict is Verdict.BETTER
    among = decide({"clear": clear, **others})
    assert among["clear"].verdict is Verdict.OPEN
    assert among["clear"].adjusted_p == pytest.approx(4 * clear.estimate.p_value)


def test_arms_that_cannot_be_tested_make_the_correction_no_harder():
    clear = difference(1.0, 1.5, 1.75)
    untested = {"two seeds": difference(1.0, 2.0), "no spread": difference(1.0, 1.0, 1.0), "none": None}
    assert decide({"clear": clear, **untested})["clear"].adjusted_p == clear.estimate.p_value


@pytest.mark.against("statsmodels", "Holm's correction", "1e-12")
def test_holm_is_that_of_statsmodels_ties_and_ones_included():
    random = np.random.RandomState(0)
    for size in range(1, 12):
        p_values = (random.rand(size) ** 3).round(2).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), rel=1e-12)
    assert holm([]) == []


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_interval_of_a_verdict_leaves_out_0_exactly_where_it_is_better_or_worse():
    random = np.random.RandomState(3)
    seen = set()
    for _ in range(300):
        study = simulated.simulate_study(random, effects=[0.0, 0.0, 0.001, 0.004, 0.008], num_seeds=5, sd=0.002)
        for one in simulated.verdicts_on(study).values():
            seen.add(one.verdict)
            low, high = one.interval
            if one.verdict is Verdict.EQUIVALENT:
                assert one.confidence == 0.9 and -MARGIN <= low < high <= MARGIN
            else:
                assert (low > 0 or high < 0) == (one.verdict in (Verdict.BETTER, Verdict.WORSE))
                assert one.interval == pytest.approx(one.difference.interval(one.confidence)) and one.confidence >= 0.95
            if "within" in verdict_text(one):
                assert -MARGIN <= low < high <= MARGIN
    assert seen == {Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.OPEN}


def test_intervals_are_as_wide_as_holms_steps():
    """Of four arms p is 0.0005, 0.009, 0.02 and 0.5 or so: rejected at α/4 and α/3, then α/2 fails, and ends it."""
    arms = {"a": (5.0, 5.1, 4.9, 5.0), "b": (2.0, 2.5, 1.6, 2.9), "c": (1.0, 2.0, 0.6, 0.2), "d": (0.5, -0.5, 0.3, 0.1)}
    found = decide({name: difference(*values) for name, values in arms.items()})
    assert [one.verdict for one in found.values()] == [Verdict.BETTER, Verdict.BETTER, Verdict.OPEN, Verdict.OPEN]
    assert [1 - one.confidence for one in found.values()] == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 2, 0.05 / 2])


def images(num_right, *, num_images=80, num_seeds=3):
    """Every seed gets the same images right."""
    return np.tile(np.arange(num_images) < num_right, (num_seeds, 1))


def test_an_arm_that_collapsed_at_every_seed_is_worse_than_one_that_is_always_right():
    """25.00 against 100.00 % at all of three seeds, one of eleven arms that are tested together."""
    others = [images(80 - i) for i in range(10)]
    found = simulated.verdicts_on_images([images(80), images(20), *others], num_classes=4)
    assert found[0].verdict is Verdict.WORSE
    assert -1 <= found[0].interval.low < -0.5 and found[0].interval.high < -0.5


def test_arms_that_are_always_right_are_at_the_ceiling_and_those_that_learned_nothing_at_the_floor():
    at = {
        right: simulated.verdicts_on_images([images(right), images(right)], num_classes=4)[0] for right in (80, 20, 60)
    }
    assert {right: verdict_text(one) for right, one in at.items()} == {
        80: "at the ceiling",
        20: "at the floor",
        60: "open",  # perhaps three in four images are of one class, and nothing else was ever answered; perhaps not
    }
    assert all(one.interval is None and not one.within_margin for one in at.values())


def test_an_arm_that_makes_the_same_errors_less_often_at_every_seed_is_tested_over_images():
    """Of 1,000 images 20 more at every seed: √(0.02 × 0.98 / 999) over images, and a p of 2e-5 or so."""
    found = simulated.verdicts_on_images(
        [images(900, num_images=1000, num_seeds=5), images(920, num_images=1000, num_seeds=5)], num_classes=10
    )[0]
    assert found.verdict is Verdict.BETTER
    row = np.repeat([1.0, 0.0], [20, 980])
    assert found.interval == pytest.approx(tuple(stats.ttest_1samp(row, 0).confidence_interval(0.95)), rel=1e-9)


def test_as_many_images_lost_as_won_are_no_gain_though_every_seed_has_one_image_more():
    """Of 200 images 41 won and 40 lost at each of 3 seeds, other ones each time: luck spreads seeds by √81 / 200."""
    rows = [np.roll(np.repeat([1, -1, 0], [41, 40, 119]), 67 * seed) for seed in range(3)]
    arm, baseline = (np.stack([row == sign for row in rows]) | (np.stack(rows) == 0) for sign in (1, -1))
    (found,) = simulated.verdicts_on_images([baseline, arm], num_classes=10).values()
    assert (found.verdict, round(100 * found.difference.mean, 2), found.difference.sd) == (Verdict.OPEN, 0.5, 0.0)


def test_a_margin_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"margin 0 must be above 0, as a fraction: 0\.005 is half a point"):
        decide({}, margin=0)


STUDIES = 1000


def test_at_most_5_percent_of_studies_of_equal_arms_call_any_better_or_worse():
    assert simulated.false_alarms(STUDIES) <= simulated.within(STUDIES, 0.05)[1]


def test_so_it_is_for_whole_numbers_of_test_images():
    assert simulated.false_alarms_on_images(300, num_images=300) <= simulated.within(300, 0.05)[1]


def test_without_the_correction_there_would_be_more():
    """The simulation can tell: the smallest of four p-values is below 5 % far too often."""
    random = np.random.RandomState(1)
    alarms = 0
    for _ in range(STUDIES):
        study = simulated.simulate_study(random, effects=[0.0] * 4, num_seeds=5)
        alarms += (
            min(
                PairedDifference.of(study[arm], study["baseline"]).estimate.p_value
                for arm in study
                if arm != "baseline"
            )
            <= 0.05
        )
    assert alarms / STUDIES > simulated.within(STUDIES, 0.05)[1]


@pytest.mark.parametrize(
    ("accuracy", "num_images", "num_seeds"),
    [(0.5, 36, 3), (0.97, 80, 5), (0.99, 300, 5), (0.99, 36, 8), (0.9999, 80, 8)],
)
def test_at_saturated_accuracies_and_on_few_images_false_verdicts_stay_within_5_percent(
    accuracy, num_images, num_seeds
):
    alarms, equivalent = simulated.false_verdicts(
        STUDIES, accuracy=accuracy, num_images=num_images, num_seeds=num_seeds
    )
    limit = simulated.within(STUDIES, 0.05)[1]
    assert alarms <= limit
    assert equivalent <= limit


@pytest.mark.parametrize("tuning_seeds", [None, 2])
def test_equal_arms_each_at_its_own_chosen_setting_are_seldom_called_better_or_worse(tuning_seeds):
    shares = simulated.verdicts_after_a_choice(STUDIES, tuning_seeds=tuning_seeds)
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        assert shares["own", verdict] <= simulated.within(STUDIES, 0.025)[1]


def test_at_the_baselines_setting_seeds_without_a_say_are_fair_to_arms_and_those_that_chose_it_are_not():
    chosen_on_all = simulated.verdicts_after_a_choice(STUDIES, tuning_seeds=None)
    chosen_on_two = simulated.verdicts_after_a_choice(STUDIES, tuning_seeds=2)
    limit = simulated.within(STUDIES, 0.025)[1]
    assert chosen_on_two["baseline's", Verdict.WORSE] <= limit < chosen_on_all["baseline's", Verdict.WORSE]


@pytest.mark.parametrize("effect", [MARGIN, -MARGIN])
def test_an_arm_at_the_margin_is_called_equivalent_in_at_most_5_percent(effect):
    shares = simulated.verdict_shares(STUDIES, effect=effect, sd=0.002)
    assert shares["within"] <= simulated.within(STUDIES, 0.05)[1]
