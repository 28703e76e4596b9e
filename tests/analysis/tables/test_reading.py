"""Do the sentences under a table have the rule's numbers, and what pairing was worth?"""

from __future__ import annotations

from dataclasses import replace

from vitbench.analysis.statistics.narrowing import study_narrowing
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.analysis.tables.reading import narrowing_text, rule
from vitbench.records.metrics import TOP1

GAP = {0: 0.912, 1: 0.905, 2: 0.921, 3: 0.899, 4: 0.917}
CLS = {0: 0.905, 1: 0.901, 2: 0.914, 3: 0.897, 4: 0.909, 5: 0.5}


def test_the_rule_as_text_has_its_numbers_and_every_verdict():
    text = " ".join(rule(4, metric=replace(TOP1, margin=0.01))).lower()
    assert all(verdict.value in text for verdict in Verdict)
    assert "holm's correction over 4 arms" in text
    assert "±1 points" in text


def test_the_sentence_has_the_ratio_the_correlation_and_what_they_are_from():
    found = study_narrowing({"cls": CLS, "gap": GAP, "map": {0: 0.93, 1: 0.92, 2: 0.95}}, baseline="cls")
    text = narrowing_text(found)
    assert f"{found.ratio:.2f} times as wide" in text
    assert "(2 arms, 3 to 5 seeds)" in text
    assert f"by {found.correlation:+.2f} over seeds" in text


def test_the_rule_of_a_study_that_adds_seeds_says_what_holds_at_all_looks():
    text = " ".join(rule(4, looks=(5, 8)))
    assert "or the first look, after 5, is not reached" in text
    assert "all looks together are wrong no more often than 0.05" in text
    assert "Its confidence, over all looks together, is 1 − 0.05 / 4;" in text
    assert "90 %" not in text  # of a fixed number
