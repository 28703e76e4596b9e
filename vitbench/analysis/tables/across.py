"""Which verdicts hold on other data? A row for each arm, a column for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitbench.analysis.comparison.across import Agreement, ArmAcross, agreements
from vitbench.analysis.comparison.wording import difference_text, verdict_text
from vitbench.analysis.tables.further import raw_interval
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT, listed
from vitbench.records.metrics import Metric
from vitbench.text import counted

RULE = (
    "Difference from the study's baseline in points, or in the unit beside it, with the interval that decided the verdict on "
    "that data set alone. "
    "Alike: the same verdict on every data set, be it better, worse or equivalent. Opposed: better on one and worse on "
    "another. Open: all else; a verdict that is open contradicts nothing. Budgets, sizes, recipes and machines are equal; "
    "crops, flips, patch size and epochs are those of the budget on each data set. An arm that has a verdict on one data "
    "set alone is left out."
)


def across_table(arms: Sequence[ArmAcross]) -> Table:
    """`study | budget | arm | cifar10 | torch/fashion_mnist | together`; empty where no arm is on two data sets."""
    datasets = sorted({data for arm in arms for data in arm.findings})
    rows = [
        {
            **{name: getattr(arm, name) for name in ("study", "budget", "arm")},
            **dict.fromkeys(datasets, ABSENT),
            **{
                data: f"{difference_text(finding.decision, finding.metric)}{_unit(finding.metric)}: "
                f"{verdict_text(finding.decision, finding.metric, edges=True)}"
                for data, finding in arm.findings.items()
            },
            "together": arm.agreement.value,
        }
        for arm in arms
    ]
    return Table(
        name="across",
        title="Does it hold on other data?",
        rows=rows,
        raw=[_raw_row(arm, data) for arm in arms for data in arm.findings],
        texts=("study", "budget", "arm", "together"),
        conventions=(RULE,),
    )


def summary(arms: Sequence[ArmAcross]) -> str:
    """`Verdicts of 34 arms on two data sets or more: alike for 9, opposed for none, open for 25.`"""
    counts = agreements(arms)
    each = listed(f"{agreement} for {counts[agreement] or 'none'}" for agreement in Agreement)
    return f"Verdicts of {counted(counts.total(), 'arm')} on two data sets or more: {each}."


def _unit(metric: Metric) -> str:
    """` nats`; nothing for points, in which the page is."""
    return "" if metric.unit == "points" else f" {metric.unit}"


def _raw_row(arm: ArmAcross, dataset: str) -> dict[str, Any]:
    """An arm on one data set, at full precision."""
    decision, metric = arm.findings[dataset].decision, arm.findings[dataset].metric
    difference = decision.difference
    return {
        **{name: getattr(arm, name) for name in ("study", "budget", "arm")},
        "dataset": dataset,
        "comparison": arm.slugs[dataset],
        "metric": metric.name,
        f"difference_{metric.unit}": metric.scale * difference.mean if difference else None,
        **raw_interval("interval", decision.interval, metric),
        "interval_confidence": decision.confidence,
        **raw_interval("difference_ci95", difference.interval() if difference else None, metric),
        "seeds": difference.n if difference else 0,
        "verdict": decision.verdict.value,
        "together": arm.agreement.value,
    }
