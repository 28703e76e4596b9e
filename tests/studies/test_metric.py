"""Is the metric declared before the runs, by a study or on the command line, and refused where it has no meaning?"""

from __future__ import annotations

import pytest

from vitbench.data import describe
from vitbench.data.info import DataInfo
from vitbench.studies import BUDGETS, Arm, Overrides, Study
from vitbench.studies.resolved_study import resolve_study


def study(**fields: str) -> Study:
    return Study(name="s", question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], **fields)


def declared(made: Study, data: DataInfo, **overrides: str) -> str:
    return resolve_study(made, BUDGETS["smoke"], data, Overrides(**overrides)).design.metric


def test_a_study_declares_top1_unless_it_or_the_command_line_names_another() -> None:
    digits = describe("digits")
    assert declared(study(), digits) == "top1"
    assert declared(study(metric="loss"), digits) == "loss"
    assert declared(study(metric="loss"), digits, metric="brier") == "brier"


def test_a_name_that_is_no_metric_is_refused_at_birth() -> None:
    with pytest.raises(ValueError, match="metric 'los' is none; did you mean loss"):
        study(metric="los")


def test_top5_of_five_classes_is_refused() -> None:
    few = describe("digits").model_copy(update={"num_classes": 5, "dataset": "few"})
    with pytest.raises(ValueError, match="metric 'top5' says nothing of the 5 classes of few"):
        declared(study(), few, metric="top5")
    assert declared(study(), describe("digits"), metric="top5") == "top5"
