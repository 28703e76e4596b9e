"""Where does a study stand that adds seeds until its arms are settled? Which looks are over, and what does each arm want?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import decisions_of
from vitbench.analysis.statistics.stopping import Progress, Runs, follow
from vitbench.analysis.statistics.verdicts import Decision
from vitbench.records import Outcome
from vitbench.studies.choice import outcome_of


def at_its_looks(comparison: Comparison) -> Comparison:
    """The comparison as its verdicts see it: of each arm the seeds below its last look alone, whatever was run beyond.

    Equal to the comparison where the number of seeds is fixed, or no arm has reached the first look.
    """
    if not comparison.design.looks:
        return comparison
    at_looks = _at(comparison, progress_of(comparison).reached)
    return replace(at_looks, runs_beyond=len(comparison.records) - len(at_looks.records))


def progress_of(comparison: Comparison) -> Progress[str]:
    """From look to look, by arm label; by name where an arm of the design has no run yet."""
    arms = {arm.label: arm for arm in comparison.arms if comparison.compared_with(arm) is not None}
    there = {arm.name for arm in comparison.arms}
    missing = [name for name in comparison.design.compared_arms if name not in there]

    current = _current_labels(comparison)

    def runs(label: str, look: int) -> Runs:
        if label not in arms:
            return Runs.MISSING
        there = _runs(comparison, arms[label], look)
        # Of an arm that the study no longer has, or has otherwise now, nothing more will come.
        return Runs.FAILED if there is Runs.MISSING and label not in current else there

    def decide_at(reached: Mapping[str, int]) -> Mapping[str, Decision]:
        return decisions_of(_at(comparison, reached))

    return follow([*arms, *missing], comparison.design.looks, runs=runs, decide_at=decide_at)


def _current_labels(comparison: Comparison) -> set[str]:
    """Of the study's arms as they are now: of several definitions of one name, the one with the latest record."""
    latest = sorted(comparison.arms, key=lambda arm: max(record.finished for record in arm.runs.values()))
    by_name = {arm.name: arm.label for arm in latest}
    return {label for name, label in by_name.items() if name in comparison.design.arms}


def _runs(comparison: Comparison, arm: ArmResult, look: int) -> Runs:
    """What there is of an arm, and of the arm that it is compared with, up to a look."""
    reference = comparison.compared_with(arm)
    assert reference is not None, arm.label
    states = [_own_runs(arm, look), _own_runs(reference, look)]
    return next(state for state in (Runs.MISSING, Runs.FAILED, Runs.COMPLETE) if state in states)


def _own_runs(arm: ArmResult, look: int) -> Runs:
    outcomes = [
        outcome_of(record)
        for (setting, seed), record in arm.runs.items()
        if arm.setting in (None, setting) and seed < look
    ]
    # An arm of which nothing completed has no setting at which it would get more seeds.
    if arm.setting is not None and len(outcomes) < look:
        return Runs.MISSING
    return Runs.FAILED if Outcome.FAILED in outcomes else Runs.COMPLETE


def _at(comparison: Comparison, reached: Mapping[str, int]) -> Comparison:
    """With each arm's seeds below its look, and of those that others are compared with, below the last of these arms'."""
    seeds = dict(reached)
    for arm in comparison.arms:
        if (reference := comparison.compared_with(arm)) is not None and arm.label in reached:
            seeds[reference.label] = max(seeds.get(reference.label, 0), reached[arm.label])
    arms = [_below(arm, seeds.get(arm.label)) for arm in comparison.arms]
    baseline = next((arm for arm in arms if comparison.baseline and arm.label == comparison.baseline.label), None)
    return replace(comparison, arms=tuple(arms), baseline=baseline, reached=reached)


def _below(arm: ArmResult, seeds: int | None) -> ArmResult:
    if seeds is None:
        return arm
    return replace(arm, runs={place: record for place, record in arm.runs.items() if place[1] < seeds})
