"""Has an assessment the findings and all notes of its comparison?"""

from __future__ import annotations

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare


def test_findings_are_of_every_arm_but_the_baseline_and_further_notes_come_last():
    (comparison,) = compare([make_record("cls"), make_record("gap")])
    assessment = assess(comparison, ["Left out: records/pool.jsonl line 3: no JSON."])
    assert assessment.comparison is comparison and list(assessment.findings.arms) == ["gap"]
    assert assessment.notes == (*assess(comparison).notes, "Left out: records/pool.jsonl line 3: no JSON.")
