"""Which arms does another study judge differently by the same runs? Each study has its own number of arms and seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.wording import verdict_text
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.text import counted


def with_other_verdicts(assessments: Sequence[Assessment]) -> list[Assessment]:
    """The assessments, with a note on every arm that another study has the same runs of, or some of them, and judges
    differently.
    """
    same_runs: dict[tuple[object, object], list[tuple[int, Finding]]] = defaultdict(list)
    for index, assessment in enumerate(assessments):
        for finding in assessment.findings.arms.values():
            reference = assessment.comparison.compared_with(finding.arm)
            if reference is not None and finding.decision.verdict is not Verdict.NONE:
                same_runs[_first_run(finding.arm), _first_run(reference)].append((index, finding))
    notes: dict[int, list[str]] = defaultdict(list)
    for judged in same_runs.values():
        for (index, finding), (other_index, other_finding) in permutations(judged, 2):
            assessment, other = assessments[index], assessments[other_index]
            other_study = (
                other.comparison.study != assessment.comparison.study and other_finding.metric == finding.metric
            )
            if other_study and other_finding.decision.verdict is not finding.decision.verdict:
                notes[index].append(_note(assessment, finding, other, other_finding))
    return [
        replace(assessment, notes=(*assessment.notes, *notes[index])) if index in notes else assessment
        for index, assessment in enumerate(assessments)
    ]


def _first_run(arm: ArmResult) -> object:
    """The configuration and environment of the lowest seed's run: studies that share any run of an arm share it."""
    record = next(iter(arm.completed(arm.setting).values()))
    return record.identity, record.environment.comparison_key


def _note(assessment: Assessment, finding: Finding, other: Assessment, other_finding: Finding) -> str:
    reason = " The more arms are tested together, the more evidence each needs."
    return (
        f"{finding.arm.label}: {verdict_text(finding.decision, finding.metric)} here ({_evidence(assessment, finding)}), but "
        f"{verdict_text(other_finding.decision, other_finding.metric)} in {other.comparison.study}, which has these runs too "
        f"({_evidence(other, other_finding)})."
        f"{reason if assessment.findings.num_tested != other.findings.num_tested else ''}"
    )


def _evidence(assessment: Assessment, finding: Finding) -> str:
    assert finding.decision.difference is not None
    return f"{finding.decision.difference.n} seeds, {counted(assessment.findings.num_tested, 'arm')}"
