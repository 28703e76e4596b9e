"""Which verdicts hold on other data? A row for each arm, a column for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitbench.analysis.comparison.across import ArmAcross, agreements
from vitbench.analysis.comparison.naming import distinct_names, study_words
from vitbench.analysis.comparison.together import Together
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
    "another. Differs: settled on all, but not the same: better or worse on one, equivalent on another. Open: not settled on "
    "one of them; how many seeds it has on each is said, in the order of the columns. At the ceiling or floor a verdict says "
    "nothing of the arm, so that data set is left out of its row. Budgets, sizes, recipes and machines are equal; "
    "crops, flips, patch size and epochs are those of the budget on each data set. An arm that has a verdict on one data "
    "set alone is left out."
)


def across_table(arms: Sequence[ArmAcross]) -> Table:
    """`study | budget | arm | CIFAR-10 | Fashion-MNIST | together`; empty where no arm is on two data sets."""
    names = distinct_names(sorted({data for arm in arms for data in arm.findings}))
    rows = [
        {
            "study": study_words(arm.study),
            **{name: getattr(arm, name) for name in ("budget", "arm")},
            **dict.fromkeys(names.values(), ABSENT),
            **{
                names[data]: f"{difference_text(finding.decision, finding.metric)}{_unit(finding.metric)}: "
                f"{verdict_text(finding.decision, finding.metric, edges=True)}"
                for data, finding in arm.findings.items()
            },
            "together": _together(arm),
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
    """`Verdicts of 34 arms on two data sets or more: alike for 9, opposed for none, differs for none, open for 25.`"""
    counts = agreements(arms)
    each = listed(f"{together} for {counts[together] or 'none'}" for together in Together)
    return f"Verdicts of {counted(counts.total(), 'arm')} on two data sets or more: {each}."


def _together(arm: ArmAcross) -> str:
    """`alike`; `open: 5, 8 seeds`."""
    if arm.together is not Together.OPEN:
        return arm.together.value
    differences = [finding.decision.difference for finding in arm.findings.values()]
    return f"open: {listed(str(difference.n if difference else 0) for difference in differences)} seeds"


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
        "together": arm.together.value,
    }
