"""Which arms does another study judge otherwise, though by the same runs? Each has its own number of arms and seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.statistics.verdicts import Verdict

Run = tuple[str, tuple[str, ...]]
"""A configuration, and the environment that it ran in."""


def with_other_verdicts(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, with a note on every arm of which another has the same runs, or some of them, and another verdict."""
    judged: dict[tuple[Run, Run], list[tuple[int, Finding]]] = defaultdict(list)
    for index, comparison in enumerate(comparisons):
        for finding in comparison.findings.arms.values():
            reference = comparison.compared_with(finding.arm)
            if reference is not None and finding.decision.verdict is not Verdict.NONE:
                judged[_first_run(finding.arm), _first_run(reference)].append((index, finding))
    notes: dict[int, list[str]] = defaultdict(list)
    for findings in judged.values():
        for index, finding in findings:
            for other_index, other in findings:
                elsewhere = comparisons[other_index].study != comparisons[index].study
                if elsewhere and other.decision.verdict is not finding.decision.verdict:
                    notes[index].append(_note(comparisons[index], finding, comparisons[other_index], other))
    return [
        replace(comparison, notes=(*comparison.notes, *notes[index])) if index in notes else comparison
        for index, comparison in enumerate(comparisons)
    ]


def _first_run(arm: ArmResult) -> Run:
    """That of the lowest seed: studies that share a run share this one."""
    return next((one.identity, one.environment.comparison_key) for one in arm.completed(arm.setting).values())


def _note(comparison: Comparison, finding: Finding, other: Comparison, other_finding: Finding) -> str:
    reason = " The more arms are tested together, the more evidence each needs."
    return (
        f"{finding.arm.label}: {finding.decision.words} here ({_by_what(comparison, finding)}), but "
        f"{other_finding.decision.words} in {other.study}, which has these runs too ({_by_what(other, other_finding)})."
        f"{reason if comparison.findings.num_tested != other.findings.num_tested else ''}"
    )


def _by_what(comparison: Comparison, finding: Finding) -> str:
    assert finding.decision.difference is not None
    arms = comparison.findings.num_tested
    return f"{finding.decision.difference.n} seeds, {arms} {'arm' if arms == 1 else 'arms'}"
