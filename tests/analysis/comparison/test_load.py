"""Does the design in the records name the baseline, the question and the order of the arms?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison import load
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare, load_comparisons
from vitbench.records import Design, Faults


def test_the_design_in_the_records_names_baseline_question_and_order():
    design = Design(
        question="Pool?", source="Paper", baseline="cls", arms=("cls", "gap", "map"), learning_rates=(1e-3,)
    )
    (comparison,) = compare([make_record("gap", design=design), make_record("cls", design=design)])
    assert [arm.name for arm in comparison.arms] == ["cls", "gap"]
    assert comparison.baseline.name == "cls"
    assert (comparison.design.question, comparison.design.source) == ("Pool?", "Paper")
    assert "Not yet run: map." in assess(comparison).notes


def test_arms_that_no_design_names_come_last_and_without_a_design_the_first_arm_is_the_baseline():
    arms = ["gap", "cls", "extra"]
    design = Design(question="", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,))
    (planned,) = compare([make_record(arm, design=design) for arm in arms])
    assert [arm.name for arm in planned.arms] == ["cls", "gap", "extra"]
    assert planned.baseline.name == "cls"
    (unplanned,) = compare([make_record(arm) for arm in arms])
    assert [arm.name for arm in unplanned.arms] == arms
    assert unplanned.baseline.name == "gap"


def test_without_the_baseline_there_are_no_differences_and_a_note_says_so():
    design = Design(question="", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,))
    (comparison,) = compare([make_record("gap", design=design)])
    assert comparison.baseline is None
    assert comparison.difference(comparison.arms[0]) is None
    assert "The baseline, cls, has no run here: there are no differences from it." in assess(comparison).notes


def test_an_empty_store_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"^no records under '.*'; run `vitbench run` first$"):
        load_comparisons(tmp_path)


def test_the_factors_of_a_factorial_study_come_with_its_records():
    levels = {"cls": {"pool": "cls"}, "gap": {"pool": "gap"}}
    design = Design(question="", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,), factors=levels)
    assert compare([make_record("gap", design=design)])[0].design.factors == levels
    assert compare([make_record("gap")])[0].design.factors == {}


def test_a_study_that_cannot_be_assessed_is_left_out_and_told(store_with, monkeypatch):
    def assess_but_not_stem(comparison, further_notes):
        if comparison.study == "stem":
            raise ArithmeticError("no number")
        return assess(comparison, further_notes)

    monkeypatch.setattr(load, "assess", assess_but_not_stem)
    root, faults = store_with(make_record(), make_record(study="stem")), Faults(lambda line: None)
    assert [one.comparison.study for one in load.load_assessments(root, faults=faults)] == ["pool"]
    assert ["no number" in fault.what for fault in faults] == [True]
