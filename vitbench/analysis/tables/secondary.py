"""What do the arms come to by the metrics that they are not judged by, and does loss judge as top-1 does?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import decisions_of
from vitbench.analysis.comparison.metrics import (
    LOSS,
    ByBoth,
    judged_by,
    nats_by_dataset,
    nats_of_half_a_point,
    other_metrics,
)
from vitbench.analysis.comparison.naming import data_words, study_words
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.comparison.wording import difference_text, margin_text, number_text, verdict_text
from vitbench.analysis.statistics.power import MOST_SEEDS, SeedsToSettle
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.statistics.verdicts import Decision, Verdict
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT, listed
from vitbench.records.metrics import TOP1, Metric
from vitbench.text import counted


def secondary(comparison: Comparison) -> Table:
    """A row for each arm: mean, difference and verdict by every other metric that runs have; empty where they have none."""
    metrics = other_metrics(comparison)
    decisions = {metric.name: decisions_of(judged_by(comparison, metric)) for metric in metrics}
    rows = [
        {
            "arm": arm.label,
            **{
                f"{metric.heading}{_direction(metric)}": _cell(
                    Summary.of(arm.metric(metric.key, arm.setting).values()),
                    decisions[metric.name].get(arm.label),
                    metric,
                )
                for metric in metrics
            },
        }
        for arm in comparison.arms
    ]
    return Table(f"Other metrics, secondary to {comparison.metric.words}", rows if metrics else (), texts=("arm",))


def _direction(metric: Metric) -> str:
    return "" if metric.larger_is_better else ", less is better"


def _nats(value: float) -> str:
    return f"{value:.4f}".replace("-", "−")


def _cell(summary: Summary | None, decision: Decision | None, metric: Metric) -> str:
    """`1.2345: −0.0123 [−0.0201, −0.0045] better`; the mean alone of a baseline, and where there are too few seeds."""
    if summary is None:
        return ABSENT
    mean = number_text(summary.mean, metric)
    if decision is None or decision.verdict is Verdict.NONE:
        return mean
    return f"{mean}: {difference_text(decision, metric)} {verdict_text(decision, metric)}"


def about_secondary(comparison: Comparison) -> list[str]:
    """How to read the other metrics; nothing where there are none."""
    metrics = other_metrics(comparison)
    if not metrics:
        return []
    margins = listed(f"{metric.words} {margin_text(metric.margin, metric)}" for metric in metrics)
    return [
        f"Other metrics are secondary: {comparison.metric.words} is what arms are judged by. Each cell has the mean, the "
        "difference and the verdict by the same rule, as if that metric were the only one, without a correction for their "
        f"number: some will differ by chance. A spread of 0 over seeds is open there. Margins: {margins}."
    ]


def loss_and_top1_table(arms: Sequence[ByBoth]) -> Table:
    """`study | data | arm | by top-1 | by loss | together | seeds by top-1 | seeds by loss`."""
    return Table(
        name="metrics",
        title="Do loss and top-1 judge alike?",
        rows=[
            {
                "study": study_words(arm.comparison.study),
                "data": data_words(arm.comparison.data.dataset),
                "arm": arm.arm,
                "by top-1 (points)": f"{difference_text(arm.top1)} {verdict_text(arm.top1)}",
                "by loss (nats)": f"{difference_text(arm.loss, LOSS)} {verdict_text(arm.loss, LOSS)}",
                "together": arm.together.value,
                "seeds by top-1": _seeds_text(arm.seeds(TOP1)),
                "seeds by loss": _seeds_text(arm.seeds(LOSS)),
            }
            for arm in arms
        ],
        raw=[_raw_row(arm) for arm in arms],
        texts=("study", "data", "arm", "by top-1 (points)", "by loss (nats)", "together"),
        conventions=(
            "Each arm by both metrics, at the setting that validation accuracy chose, against its baseline; Holm's correction "
            f"over the arms of its study. Margins: {margin_text(TOP1.margin)} and {margin_text(LOSS.margin, LOSS)}. Alike: "
            "settled by both, with one verdict. Opposed: better by one, worse by the other. Differs: settled by both, but "
            "equivalent by one. Open: not settled by one of them. Less loss is better. Runs that several studies share count "
            "once.",
            "Seeds: how many a study would need, from the first, to settle the arm with 80 % power, were mean and spread as "
            "seen here; a guide, as they come from few seeds.",
            "Recipes that change calibration, as label smoothing and mixup do, move loss by themselves: there, loss says "
            "little of accuracy.",
        ),
    )


def loss_and_top1_summary(arms: Sequence[ByBoth]) -> list[str]:
    """How often both agree, how many seeds each needs, and what half a point of top-1 is worth in nats."""
    if not arms:
        return []
    counts = Counter(arm.together for arm in arms)
    each = listed(f"{together} for {counts[together] or 'none'}" for together in Together)
    settled = {
        metric.words: sum((arm.top1 if metric.is_top1 else arm.loss).verdict.is_settled for arm in arms)
        for metric in (TOP1, LOSS)
    }
    settles = listed(f"{words} settles {number}" for words, number in settled.items())
    sentences = [f"Of {counted(len(arms), 'arm')}, {settles}. Verdicts by both: {each}."]
    needed = [(arm.seeds(TOP1), arm.seeds(LOSS)) for arm in arms]
    pairs = [(_number(top1), _number(loss)) for top1, loss in needed if top1 is not None and loss is not None]
    if pairs:
        by_top1, by_loss = (median(numbers) for numbers in zip(*pairs, strict=True))
        sentences.append(
            f"Seeds to settle an arm, median: {_count_text(by_top1)} by top-1, {_count_text(by_loss)} by loss; loss needs "
            f"fewer for {sum(loss < top1 for top1, loss in pairs)}, more for {sum(loss > top1 for top1, loss in pairs)} of "
            f"{len(pairs)}."
        )
    if ratios := [ratio for arm in arms if (ratio := arm.strength_ratio) is not None]:
        sentences.append(f"|t| by loss is {median(ratios):.2f} times that by top-1 (median).")
    if (nats := nats_of_half_a_point(arms)) is not None:
        by_data = listed(f"{_nats(value)} on {data_words(name)}" for name, value in nats_by_dataset(arms).items())
        sentences.append(f"Half a point of top-1 comes to {_nats(nats)} nats of loss over arms and seeds ({by_data}).")
    return sentences


def _number(needed: SeedsToSettle) -> int:
    return MOST_SEEDS + 1 if needed.num_seeds is None else needed.num_seeds


def _count_text(number: float) -> str:
    return f"more than {MOST_SEEDS}" if number > MOST_SEEDS else f"{number:g}"


def _seeds_text(needed: SeedsToSettle | None) -> str:
    return ABSENT if needed is None else _count_text(_number(needed))


def _raw_row(arm: ByBoth) -> dict[str, Any]:
    """At full precision."""
    top1, loss = arm.top1.difference, arm.loss.difference
    needed = {metric.name: arm.seeds(metric) for metric in (TOP1, LOSS)}
    return {
        "study": arm.comparison.study,
        "comparison": arm.comparison.slug,
        "arm": arm.arm,
        "seeds": top1.n if top1 else 0,
        "top1_difference_points": 100 * top1.mean if top1 else None,
        "top1_verdict": arm.top1.verdict.value,
        "loss_difference_nats": loss.mean if loss else None,
        "loss_verdict": arm.loss.verdict.value,
        "together": arm.together.value,
        **{f"{name}_seeds_to_settle": seeds.num_seeds if seeds else None for name, seeds in needed.items()},
        "loss_t_over_top1_t": arm.strength_ratio,
    }
