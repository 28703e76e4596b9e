"""Which arms of a study are settled, and how many seeds do the others want? What plans ask, answered as tables answer it."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.analysis.comparison.load import comparisons_of
from vitbench.analysis.comparison.looks import progress_of
from vitbench.analysis.comparison.wording import verdict_text
from vitbench.analysis.statistics.stopping import expected_seeds
from vitbench.analysis.statistics.verdicts import SequentialPlan
from vitbench.records import Record
from vitbench.studies.looks import LookedAt
from vitbench.studies.resolved_study import ResolvedStudy


def judge(resolved: ResolvedStudy, records: Sequence[Record]) -> LookedAt:
    """`Judge` of plans: of the records of its arms, as tables see them, in the environment with most of them."""
    design = resolved.design
    of_this_plan = [record.model_copy(update={"design": design}) for record in records]
    comparisons = comparisons_of(of_this_plan)
    if not comparisons:
        return LookedAt(0, dict.fromkeys(design.compared_arms, design.looks[0]), dict.fromkeys(design.compared_arms))
    comparison = max(comparisons, key=lambda comparison: len(comparison.records))
    progress, names = progress_of(comparison), {arm.label: arm.name for arm in comparison.arms}
    plan = SequentialPlan(design.looks, len(design.compared_arms), progress.reached)
    more: dict[str, float | None] = {}
    for label, seeds in progress.wanted.items():
        reached, decision = progress.reached.get(label), progress.decisions.get(label)
        if reached is None or decision is None or decision.difference is None:
            more |= {} if seeds == reached else {names.get(label, label): None}
        elif seeds != reached:
            more[names[label]] = max(
                seeds, expected_seeds(decision.difference, look=reached, plan=plan, margin=decision.margin)
            )
    return LookedAt(
        look=max(progress.reached.values(), default=0),
        wanted={names.get(label, label): seeds for label, seeds in progress.wanted.items()},
        open=more,
        verdicts={names[label]: verdict_text(decision) for label, decision in progress.decisions.items()},
    )
