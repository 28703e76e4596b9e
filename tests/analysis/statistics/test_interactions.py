"""Is an interaction the difference of differences, paired by seed, and its F test that of other software?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vitbench.analysis.statistics.interactions import interactions, overall_interaction
from vitbench.analysis.statistics.verdicts import Verdict, decide

CELLS = {
    ("stem", "cls"): {0: 0.80, 1: 0.82, 2: 0.81},
    ("stem", "gap"): {0: 0.81, 1: 0.84, 2: 0.83},
    ("every", "cls"): {0: 0.83, 1: 0.84, 2: 0.82},
    ("every", "gap"): {0: 0.79, 1: 0.80, 2: 0.80, 3: 0.99},
}
BY_HAND = {0: -0.05, 1: -0.06, 2: -0.04}
"""Seed 0: (0.79 − 0.83) − (0.81 − 0.80); 1: (0.80 − 0.84) − (0.84 − 0.82); 2: (0.80 − 0.82) − (0.83 − 0.81)."""


def test_an_interaction_by_hand():
    (found,) = interactions(CELLS, baseline=("stem", "cls")).items()
    levels, difference = found
    assert levels == ("every", "gap")
    assert difference.by_seed == pytest.approx(BY_HAND)
    assert decide(dict([found]))[levels].verdict is Verdict.WORSE


def test_with_every_cell_an_interaction_for_each_pair_of_other_levels():
    cells = {(a, b): {0: 0.5, 1: 0.6} for a in "xyz" for b in "pqr"}
    assert list(interactions(cells, baseline=("x", "p"))) == [("y", "q"), ("y", "r"), ("z", "q"), ("z", "r")]
    del cells["y", "p"]
    assert list(interactions(cells, baseline=("x", "p"))) == [("z", "q"), ("z", "r")]


def test_a_sum_of_effects_is_no_interaction():
    worth = {"x": 0.0, "y": 0.03, "p": 0.0, "q": -0.02}
    cells = {(a, b): {seed: 0.8 + worth[a] + worth[b] + 0.01 * seed for seed in range(4)} for a in "xy" for b in "pq"}
    assert interactions(cells, baseline=("x", "p"))["y", "q"].mean == pytest.approx(0)
    assert overall_interaction(cells) is None  # nothing varies but the seeds


def test_of_two_levels_each_f_is_the_square_of_the_paired_t():
    found = overall_interaction(CELLS)
    expected = stats.ttest_1samp(list(BY_HAND.values()), 0)
    assert found.f == pytest.approx(expected.statistic**2, rel=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.numerator_degrees, found.denominator_degrees) == (1, 2)


# Eight subjects in 2 × 3 cells, and what R's ez::ezANOVA makes of them: from the tests of statsmodels.
EZ_ANOVA = {
    ("a", "a"): (7, 3, 6, 6, 5, 8, 6, 7),
    ("a", "b"): (7, 11, 9, 11, 10, 10, 11, 11),
    ("a", "c"): (8, 14, 10, 11, 12, 10, 11, 12),
    ("b", "a"): (16, 7, 11, 9, 10, 11, 8, 8),
    ("b", "b"): (16, 10, 13, 10, 10, 14, 11, 12),
    ("b", "c"): (24, 29, 10, 22, 25, 28, 22, 24),
}


@pytest.mark.against("R's ez::ezANOVA", "F test of an interaction, repeated measures", "1e-5")
def test_the_overall_test_is_that_of_r():
    found = overall_interaction({cell: dict(enumerate(map(float, values))) for cell, values in EZ_ANOVA.items()})
    assert (found.f, found.p_value) == pytest.approx((17.10545, 1.741322e-04), rel=1e-5)
    assert (found.numerator_degrees, found.denominator_degrees) == (2, 14)


def test_the_overall_test_calls_5_percent_of_null_studies_significant():
    random = np.random.RandomState(0)
    p_values = []
    for _ in range(60):
        seeds = 0.01 * random.standard_normal(5)
        cells = {
            (a, b): dict(enumerate((0.8 + seeds + 0.003 * random.standard_normal(5)).tolist()))
            for a in "xyz"
            for b in "pq"
        }
        p_values.append(overall_interaction(cells).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    "cells",
    [
        {},
        {cell: CELLS[cell] for cell in list(CELLS)[:3]},
        {cell: {0: values[0]} for cell, values in CELLS.items()},
        {cell: values for cell, values in CELLS.items() if cell[0] == "stem"},
    ],
    ids=["no cell", "a cell missing", "one seed", "one level"],
)
def test_what_cannot_be_tested_is_not(cells):
    assert overall_interaction(cells) is None


def test_a_baseline_without_a_cell_is_refused():
    with pytest.raises(ValueError, match=r"baseline \('stem', 'map'\) has no cell; there are \('every', 'cls'\)"):
        interactions(CELLS, baseline=("stem", "map"))
