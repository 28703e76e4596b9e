"""Do studies that add seeds until they are settled come to what is not so as seldom as they say, and to an end?"""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.simulated_sequential import WORLDS, shares
from tests.analysis.simulated_studies import within
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.sequential import nominal_level
from vitbench.analysis.statistics.stopping import Runs, follow
from vitbench.analysis.statistics.verdicts import MARGIN, Decision, SequentialPlan, Verdict, decide
from vitbench.studies.looks import LOOKS

STUDIES = 500


@pytest.mark.parametrize("world", WORLDS)
def test_false_verdicts_and_coverage(world):
    found, arms = shares(STUDIES, WORLDS[world]), STUDIES * len(WORLDS[world].effects)
    assert found.false_difference <= within(STUDIES, 0.05)[1]
    assert found.false_equivalent <= within(STUDIES, 0.05)[1]
    # Arms of a study share a baseline: no more than its studies are independent.
    assert found.covered >= within(min(arms, STUDIES), 0.95)[0]


def follow_words(words, looks=(5, 8, 12), runs=lambda arm, look: Runs.COMPLETE):
    """`words`: the verdict of each arm at each look."""

    def decide_at(reached):
        found = {}
        for arm, look in reached.items():
            found[arm] = Decision(words[arm][looks.index(look)], None, MARGIN)
        return found

    return follow(words, looks, runs=runs, decide_at=decide_at)


OPEN, BETTER, EQUIVALENT = Verdict.OPEN, Verdict.BETTER, Verdict.EQUIVALENT


def test_settled_arms_stop_and_open_ones_go_on_to_the_last_look():
    progress = follow_words(
        {
            "a": (BETTER,),
            "b": (OPEN, EQUIVALENT),
            "c": (OPEN, OPEN, OPEN),
            "ceiling": (Verdict.AT_CEILING,),
            "diverged": (Verdict.NONE,),
        }
    )
    assert progress.reached == {"a": 5, "b": 8, "c": 12, "ceiling": 5, "diverged": 5}
    assert progress.is_over


def test_nothing_is_decided_before_all_open_arms_have_reached_the_look():
    def runs(arm, look):
        return Runs.MISSING if arm == "b" and look > 5 else Runs.COMPLETE

    progress = follow_words({"a": (BETTER,), "b": (OPEN, OPEN), "c": (OPEN, BETTER)}, runs=runs)
    assert progress.reached == {"a": 5, "b": 5, "c": 5}
    assert progress.wanted == {"a": 5, "b": 8, "c": 8}
    assert not progress.is_over


def test_before_the_first_look_every_arm_wants_its_seeds():
    progress = follow_words({"a": (BETTER,)}, runs=lambda *_: Runs.MISSING)
    assert (progress.reached, progress.wanted, progress.decisions) == ({}, {"a": 5}, {})


def test_an_arm_whose_runs_failed_keeps_no_other_waiting():
    def runs(arm, look):
        return Runs.FAILED if arm == "broken" and look > 5 else Runs.COMPLETE

    progress = follow_words({"broken": (OPEN,), "b": (OPEN, OPEN, BETTER)}, runs=runs)
    assert progress.reached == {"broken": 5, "b": 12}
    assert progress.wanted == {"broken": 8, "b": 12}
    assert not progress.is_over


def pairs(mean, number, sd=0.004, seed=0):
    values = np.random.RandomState(seed).normal(0, 1, number)
    values = (values - values.mean()) / values.std(ddof=1)
    return PairedDifference(dict(enumerate((mean + sd * values).tolist())))


def test_what_is_significant_at_a_fixed_number_may_be_open_at_the_first_look():
    difference = {"arm": pairs(0.007, 5)}
    assert decide(difference)["arm"].verdict is Verdict.BETTER
    found = decide(difference, sequential=SequentialPlan(LOOKS, 1, {"arm": 5}))["arm"]
    assert found.verdict is Verdict.OPEN
    assert found.look == 5
    assert found.interval.low < 0 < found.interval.high


SECOND = 0.004 / 8**0.5 * 3.45
"""Its t is 3.45: between the constants of one of two arms, 3.32, and of one of three, 3.65."""


def test_holm_takes_shown_arms_out_though_their_looks_differ():
    """The second arm is significant among two of three arms alone, at its own look."""
    differences = {"clear": pairs(0.05, 5), "second": pairs(SECOND, 8, seed=1), "third": pairs(0.0, 8, sd=0.01, seed=2)}
    plan = SequentialPlan((5, 8), 3, {"clear": 5, "second": 8, "third": 8})
    found = decide(differences, sequential=plan)
    assert [found[arm].verdict for arm in differences] == [Verdict.BETTER, Verdict.BETTER, Verdict.OPEN]
    assert [found[arm].corrected_for for arm in differences] == [3, 2, 1]
    # The interval for all three arms holds 0: it is cut there.
    whole = differences["second"].interval(1 - nominal_level(8, looks=(5, 8), alpha=0.05 / 3))
    assert whole.low < 0
    assert found["second"].interval == (0.0, whole.high)
    assert found["third"].confidence == pytest.approx(1 - 0.05 / 3)
    alone = decide({"second": differences["second"]}, sequential=SequentialPlan((5, 8), 3, {"second": 8}))["second"]
    assert alone.verdict is Verdict.OPEN


def test_the_interval_of_an_equivalent_arm_holds_zero_and_lies_within_the_margin():
    """(min(0, low), max(0, high)) of both one-sided tests: Hsu, Hwang, Liu and Ruberg 1994."""
    found = decide({"arm": pairs(0.002, 40, sd=0.003)}, sequential=SequentialPlan((5, 40), 4, {"arm": 40}))["arm"]
    assert found.verdict in (Verdict.EQUIVALENT, Verdict.BETTER)
    found = decide({"arm": pairs(0.001, 40, sd=0.003)}, sequential=SequentialPlan((5, 40), 4, {"arm": 40}))["arm"]
    assert found.verdict is Verdict.EQUIVALENT
    assert found.interval.low == 0 or found.interval.low > -MARGIN
    assert found.interval.low <= 0 < found.interval.high < MARGIN


def test_an_arm_before_its_first_look_has_no_verdict():
    found = decide({"arm": pairs(0.05, 4)}, sequential=SequentialPlan((5, 8), 1, {}))["arm"]
    assert (found.verdict, found.interval, found.look) == (Verdict.NONE, None, None)
