"""Is it said where two studies judge the same runs differently, and why?"""

from __future__ import annotations

from tests.made_up_records import make_record
from vitbench.analysis.comparison.load import load_assessments

CLS = (0.70, 0.72, 0.71, 0.73, 0.69)
# t of 4.47 on four degrees of freedom: p 0.011 by itself, 0.055 of five arms.
BETTER = tuple(value + 0.02 + more for value, more in zip(CLS, (0.01, -0.01, 0.01, -0.01, 0.0), strict=True))
NOISY = (0.74, 0.66, 0.75, 0.70, 0.71)


def records_of(study, arms):
    return [
        make_record(arm, seed=seed, test=value, study=study, model={"depth": depth})
        for depth, (arm, values) in enumerate(arms.items(), start=1)
        for seed, value in enumerate(values)
    ]


def notes_of(root):
    return {
        one.comparison.study: [note for note in one.notes if "these runs too" in note] for one in load_assessments(root)
    }


def test_the_same_runs_with_two_verdicts_have_a_note_in_both_studies(store_with):
    more = {f"other {i}": tuple(value + 0.0001 * i for value in NOISY) for i in range(4)}
    root = store_with(
        *records_of("small", {"cls": CLS, "gap": BETTER}), *records_of("large", {"cls": CLS, "gap": BETTER, **more})
    )
    reason = "The more arms are tested together, the more evidence each needs."
    assert notes_of(root) == {
        "small": [
            f"gap: better here (5 seeds, 1 arm), but open in large, which has these runs too (5 seeds, 5 arms). {reason}"
        ],
        "large": [
            f"gap: open here (5 seeds, 5 arms), but better in small, which has these runs too (5 seeds, 1 arm). {reason}"
        ],
    }


def test_runs_of_another_machine_are_not_these_runs(store_with):
    more = {f"other {i}": tuple(value + 0.0001 * i for value in NOISY) for i in range(4)}
    small = records_of("small", {"cls": CLS, "gap": BETTER})
    moved = [
        one.model_copy(update={"environment": one.environment.model_copy(update={"machine": "x"})}) for one in small
    ]
    root = store_with(*moved, *records_of("large", {"cls": CLS, "gap": BETTER, **more}))
    assert notes_of(root) == {"small": [], "large": []}


def test_equal_verdicts_have_no_note(store_with):
    arms = {"cls": CLS, "gap": BETTER}
    assert notes_of(store_with(*records_of("small", arms), *records_of("large", arms))) == {"small": [], "large": []}
