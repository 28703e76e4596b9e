"""Does the sentence say what each arm came to, and stay readable where many arms are open?"""

from __future__ import annotations

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.tables.sentences import sentence

CLS = (0.70, 0.72, 0.71)


def sentence_of(**points):
    """From percentage points above the class token, by seed."""
    arms = {"cls": CLS, **{arm: [c + p / 100 for c, p in zip(CLS, by, strict=True)] for arm, by in points.items()}}
    (one,) = map(
        assess,
        compare(
            [
                make_record(arm, seed=seed, test=value)
                for arm, values in arms.items()
                for seed, value in enumerate(values)
            ]
        ),
    )
    return sentence(one)


# Standard deviations of 1, 0.1 and 2 points; 4.303 of the t distribution on two degrees of freedom, over √3, is 2.484.
NOISY, CLEAR, NOISIER = (-1.0, 0.0, 1.0), (4.9, 5.0, 5.1), (-1.0, 1.0, 3.0)


def test_every_arm_stands_under_its_verdict_with_the_interval_that_decided():
    # Of three arms map has the smallest p, then bad: t(2) at 1 − 0.05/6 is 7.649, at 1 − 0.05/4 6.205, at 0.975 4.303.
    # Standard errors: 0.1/√3 = 0.0577 of map, twice that of bad, 1/√3 of gap.
    assert sentence_of(gap=NOISY, map=CLEAR, bad=(-4.8, -5.0, -5.2)) == (
        "Against cls (71.00 % after 20 epochs, 3 seeds, points with the interval that decides): better: map +5.00 [+4.56, "
        "+5.44]; worse: bad −5.00 [−5.72, −4.28]; open: gap 0.00 [−2.48, +2.48]."
    )


def test_of_more_than_three_open_arms_the_number_is_told():
    # All fail Holm's first step: t(2) at 1 − 0.05/6 is 7.649, over √3 4.416 for an SD of 1.
    three = sentence_of(a=NOISY, b=NOISIER, c=NOISY)
    assert three.endswith("open: a 0.00 [−4.42, +4.42], b +1.00 [−7.83, +9.83], c 0.00 [−4.42, +4.42].")
    four = sentence_of(a=NOISY, b=NOISIER, c=[-v for v in NOISY], d=[-v for v in NOISIER])
    assert four == (
        "Against cls (71.00 % after 20 epochs, 3 seeds, points with the interval that decides): open: 4 arms, differences of "
        "−1.00 to +1.00, intervals up to 10.23 points either side."  # 8.860, t(2) at 1 − 0.05/8, × 2/√3
    )


def test_clear_arms_are_named_however_many_are_open():
    text = sentence_of(a=NOISY, b=NOISIER, c=NOISY, d=NOISY, clear=CLEAR)
    assert "better: clear +5.00 [+4.43, +5.57]; open: 4 arms, differences of 0.00 to +1.00" in text


def test_equal_differences_of_runs_whose_images_are_not_known_take_one_image_for_a_point():
    assert sentence_of(a=(0.4, 0.4, 0.4)).endswith("open: a +0.40 [−2.08, +2.88].")  # 4.303 / √3
    assert sentence_of(a=(-60.0, -60.0, -60.0)).endswith("worse: a −60.00 [−62.48, −57.52].")


def test_without_another_arm_there_is_nothing_to_say():
    assert sentence_of() == ""


def test_a_factorial_study_says_what_levels_do_together():
    """Alone a and p are each worth 1 point; together 5 more than the sum of both, give or take SD 0.1."""
    levels = {
        "cls": ("x", "o"),
        "a": ("y", "o"),
        "p": ("x", "p"),
        "both": ("y", "p"),
        "q": ("x", "q"),
        "y and q": ("y", "q"),
    }
    worth = {"a": 0.01, "p": 0.01, "both": 0.07, "y and q": 0.01}
    wobble = {"both": (-0.001, 0.0, 0.001), "y and q": (-0.02, 0.0, 0.02)}
    factors = {name: {"position": first, "pool": second} for name, (first, second) in levels.items()}
    design = DESIGN.model_copy(update={"baseline": "cls", "factors": factors})
    (one,) = map(
        assess,
        compare(
            [
                make_record(
                    arm, seed=seed, test=c + worth.get(arm, 0.0) + wobble.get(arm, (0.0,) * 3)[seed], design=design
                )
                for arm in levels
                for seed, c in enumerate(CLS)
            ]
        ),
    )
    assert sentence(one).endswith(
        " Together, beyond the sum of both: more for y with p +5.00 [+4.64, +5.36]; open: 1 pair, differences of "
        "0.00 to 0.00, intervals up to 4.97 points either side."
    )


def test_pairs_with_too_few_seeds_for_a_verdict_are_not_called_open():
    levels = {"cls": ("x", "o"), "a": ("y", "o"), "p": ("x", "p"), "both": ("y", "p")}
    factors = {name: {"position": first, "pool": second} for name, (first, second) in levels.items()}
    design = DESIGN.model_copy(update={"baseline": "cls", "factors": factors})
    (one,) = map(
        assess,
        compare(
            [make_record(arm, seed=seed, test=0.7 + seed / 100, design=design) for arm in levels for seed in (0, 1)]
        ),
    )
    assert "Together" not in sentence(one)
