"""Which verdicts hold on other data? A row for each arm, a column for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitbench.analysis.comparison.across import Agreement, ArmAcross, agreements
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.wording import difference_text, verdict_text
from vitbench.analysis.tables.verdicts import Table
from vitbench.analysis.writing.words import ABSENT
from vitbench.text import counted

RULE = (
    "Difference from the study's baseline in points, with the interval that decided the verdict on that data set alone. "
    "Alike: the same verdict on every data set, be it better, worse or equivalent. Opposed: better on one and worse "
    "on another. Open: all else; a verdict that is open contradicts nothing. Side by side stand equal budgets, sizes and "
    "recipes, on equal machines; crops, flips, patch size and epochs are those that the budget has for each data set. An arm "
    "that has a verdict on one data set alone is left out."
)


def across_table(arms: Sequence[ArmAcross]) -> Table:
    """`study | budget | arm | cifar10 | torch/fashion_mnist | together`; empty where no arm is on two data sets."""
    names = sorted({data for arm in arms for data in arm.findings})
    return [
        {
            "study": arm.study,
            "budget": arm.budget,
            "arm": arm.arm,
            **{data: _cell(arm.findings.get(data)) for data in names},
            "together": str(arm.agreement),
        }
        for arm in arms
    ]


def summary(arms: Sequence[ArmAcross]) -> str:
    """`Verdicts of 34 arms on two data sets or more: alike for 9, opposed for none, open for 25.`"""
    counts = agreements(arms)
    each = ", ".join(f"{agreement} for {counts[agreement] or 'none'}" for agreement in Agreement)
    return f"Verdicts of {counted(counts.total(), 'arm')} on two data sets or more: {each}."


def raw(arms: Sequence[ArmAcross]) -> list[dict[str, Any]]:
    """A row for each arm and data set, at full precision."""
    return [
        {
            "study": arm.study,
            "budget": arm.budget,
            "arm": arm.arm,
            "dataset": data,
            "comparison": arm.slugs[data],
            "difference_points": None if difference is None else 100 * difference.mean,
            "interval_low_points": None if decision.interval is None else 100 * decision.interval.low,
            "interval_high_points": None if decision.interval is None else 100 * decision.interval.high,
            "interval_confidence": decision.confidence,
            "difference_ci95_low_points": None if interval is None else 100 * interval.low,
            "difference_ci95_high_points": None if interval is None else 100 * interval.high,
            "seeds": 0 if difference is None else difference.n,
            "verdict": decision.verdict.value,
            "together": arm.agreement.value,
        }
        for arm in arms
        for data, finding in arm.findings.items()
        for decision in [finding.decision]
        for difference in [decision.difference]
        for interval in [None if difference is None else difference.interval()]
    ]


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ABSENT
    return f"{difference_text(finding.decision)}: {verdict_text(finding.decision, edges=True)}"
