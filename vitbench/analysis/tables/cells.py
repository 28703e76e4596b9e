"""Which numbers stand in an arm's row? For people, and at full precision for the CSV file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.differing import differs_in, not_shared
from vitbench.analysis.comparison.wording import difference_text, number_text, verdict_text
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.tables.further import at_baseline, raw_interval
from vitbench.analysis.tables.further import raw as raw_verdict
from vitbench.analysis.tables.robustness import raw_robustness
from vitbench.analysis.writing.table import MOST_COLUMNS, Table
from vitbench.analysis.writing.words import ABSENT, count_text, filled, listed, significant
from vitbench.records import Outcome
from vitbench.records.metrics import METRICS, TOP1, Metric
from vitbench.studies.settings import RATE, value_text

DIFFERS_IN = "differs in"
TEXTS = ("arm", DIFFERS_IN, "verdict")
"""Columns that are read."""
COSTS = ("training images", "training (TFLOP)", "GMACs")
"""Columns of which the first table has those that differ between arms."""
DETAILS = "Costs and settings"


def arm_tables(assessment: Assessment) -> tuple[Table, Table]:
    """Two tables with a row for each arm: what a reader needs first, in MOST_COLUMNS at most, and the rest."""
    rows = arm_rows(assessment)
    first = _first_columns(assessment, rows)
    rest = [
        "arm",
        *(name for name in rows[0] if name not in (*first, *verdict_columns(assessment.comparison.metric), DIFFERS_IN)),
    ]
    titles = {assessment.comparison.title: first, DETAILS: rest}
    main, details = (
        Table(title, [{name: row[name] for name in columns} for row in rows], texts=TEXTS)
        for title, columns in titles.items()
    )
    return main, details


def verdict_columns(metric: Metric) -> tuple[str, str]:
    return f"difference ({metric.unit})", "verdict"


def needed_columns(metric: Metric) -> tuple[str, ...]:
    """Without which a table of arms says nothing."""
    return "arm", metric.heading, *verdict_columns(metric)


def _first_columns(assessment: Assessment, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """In what an arm differs, what it reached, its verdict, what it cost; where that is the same for all, its setting."""
    noun, metric = assessment.comparison.design.noun, assessment.comparison.metric
    columns = ["arm", *([DIFFERS_IN] if _tells_more(assessment.comparison) else []), metric.heading]
    costs = [name for name in COSTS if name in rows[0] and len({row[name] for row in rows}) > 1]
    return [*columns, *(verdict_columns(metric) if assessment.findings.arms else []), *costs, noun][:MOST_COLUMNS]


def _tells_more(comparison: Comparison) -> bool:
    """Whether the changes of arms say more than their names, which may hold every value: `gap`, of `pool gap`."""
    design = comparison.design

    def letters(text: str) -> str:
        return re.sub(r"\W|_", "", text.lower())

    def is_named(arm: ArmResult) -> bool:
        return all(letters(value_text(value)) in letters(arm.label) for value in (arm.changes or {}).values())

    further = {*design.starts, *design.learning_rate_scales}
    others = [arm for arm in comparison.arms if arm is not comparison.baseline]
    return comparison.tells_changes and any(arm.name in further or not is_named(arm) for arm in others)


def arm_rows(assessment: Assessment) -> list[dict[str, str]]:
    """Every column of each arm. Some are there only where they tell something: a choice of settings, epochs that differ."""
    return [_row(assessment, arm) for arm in assessment.comparison.arms]


def raw_rows(assessment: Assessment) -> list[dict[str, Any]]:
    """The same numbers at full precision, with their units in their names; None where there is none."""
    return [_raw_row(assessment, arm) for arm in assessment.comparison.arms]


def _row(assessment: Assessment, arm: ArmResult) -> dict[str, str]:
    comparison, memory = assessment.comparison, arm.costs("peak_memory_bytes")
    baseline, finding, metric = comparison.baseline, assessment.findings.arms.get(arm.label), comparison.metric
    noun = comparison.design.short_noun
    training_tflop = significant(arm.training_flops and arm.training_flops / 1e12)
    epochs_differ, cost_differs = comparison.design.epochs_differ, "batch_size" in not_shared(comparison)
    at_baselines = ABSENT if finding is None else at_baseline(finding, with_pairs=True)
    remark = " (fixed)" if arm.is_fixed else " (edge)" if arm.edges else ""
    return {
        "arm": f"{arm.label} (baseline)" if arm is baseline else arm.label,
        **({DIFFERS_IN: differs_in(comparison, arm)} if comparison.tells_changes else {}),
        "params": count_text(arm.params),
        "GMACs": significant(arm.macs / 1e9) if arm.macs else ABSENT,
        "MACs relative to baseline": (
            f"{arm.macs / baseline.macs:.2f}×" if baseline is not None and arm.macs and baseline.macs else ABSENT
        ),
        **({"training images": filled("{:,}", comparison.images_of(arm))} if comparison.design.images_differ else {}),
        **({"epochs": f"{arm.epochs:g}"} if epochs_differ else {}),
        **({"training (TFLOP)": training_tflop} if epochs_differ or cost_differs else {}),
        metric.heading: mean_text(comparison.summary(arm), metric),
        f"difference ({metric.unit})": ABSENT
        if finding is None
        else difference_text(finding.decision, metric) or ABSENT,
        **(
            {}
            if baseline is None
            else {"verdict": ABSENT if finding is None else verdict_text(finding.decision, metric)}
        ),
        comparison.design.noun: ABSENT if arm.setting is None else f"{arm.text(arm.setting)}{remark}",
        metric.heading_at(f"baseline's {noun}"): mean_text(comparison.at_baseline_setting(arm), metric),
        **({f"difference at baseline's {noun} ({metric.unit})": at_baselines} if comparison.has_choice else {}),
        "training (images/s)": significant(arm.median_cost("train_images_per_second")),
        "inference (images/s)": significant(arm.median_cost("infer_images_per_second")),
        "peak memory (MiB)": significant(max(memory) / 2**20) if memory else ABSENT,
        "completed runs": _runs_cell(arm),
    }


def _raw_row(assessment: Assessment, arm: ArmResult) -> dict[str, Any]:
    comparison, baseline, metric = assessment.comparison, assessment.comparison.baseline, assessment.comparison.metric
    val_top1 = Summary.of(arm.metric("val_top1", arm.setting).values())
    return {
        "arm": arm.label,
        "is_baseline": arm is baseline,
        **({"differs_in": _raw_changes(arm)} if comparison.tells_changes else {}),
        "params": arm.params,
        "macs_per_image": arm.macs,
        "macs_relative_to_baseline": arm.macs / baseline.macs if baseline is not None and baseline.macs else None,
        **_raw_mean(arm.test_top1, "test_top1", TOP1),
        "val_top1_mean_percent": 100 * val_top1.mean if val_top1 else None,
        **_raw_difference(comparison.difference(arm), "difference", metric),
        "learning_rate": arm.learning_rate,
        "learning_rate_edge": arm.edges.get(RATE, ""),
        "learning_rates_tried": len({setting[0] for setting in arm.settings}),
        **_raw_mean(comparison.at_baseline_setting(arm), f"{metric.key}_at_baseline_rate", metric),
        "train_images_per_second_median": arm.median_cost("train_images_per_second"),
        "infer_images_per_second_median": arm.median_cost("infer_images_per_second"),
        "train_seconds_median": arm.median_cost("train_seconds"),
        "peak_memory_bytes_max": max(arm.costs("peak_memory_bytes"), default=None),
        **{f"runs_{outcome.value}": count for outcome, count in arm.outcomes.items()},
        **_raw_difference(comparison.difference(arm, at_baseline_setting=True), "difference_at_baseline_rate", metric),
        "epochs": arm.epochs,
        "training_tflop": None if arm.training_flops is None else arm.training_flops / 1e12,
        **_tuned_values(comparison, arm),
        **raw_verdict(assessment.findings, arm.label, metric),
        "metric": metric.name,
        "metric_declared": comparison.design.metric,
        **_raw_others(arm),
        **raw_robustness(assessment, arm.label),
    }


def _raw_mean(summary: Summary | None, name: str, metric: Metric) -> dict[str, float | None]:
    unit = "percent" if metric.unit == "points" else metric.unit
    return {
        f"{name}_mean_{unit}": metric.scale * summary.mean if summary else None,
        f"{name}_sd_{metric.unit}": metric.scale * summary.sd if summary and summary.sd is not None else None,
        f"{name}_seeds": summary.n if summary else 0,
    }


def _raw_others(arm: ArmResult) -> dict[str, float | None]:
    """Mean and spread by every metric but top-1 that a run has."""
    values = {metric: arm.metric(metric.key, arm.setting).values() for metric in METRICS.values() if metric != TOP1}
    return {
        name: number
        for metric, numbers in values.items()
        for name, number in _raw_mean(Summary.of(numbers), metric.key, metric).items()
    }


def _raw_difference(difference: PairedDifference | None, name: str, metric: Metric) -> dict[str, float | None]:
    return {
        f"{name}_mean_{metric.unit}": metric.scale * difference.mean if difference else None,
        **raw_interval(f"{name}_ci95", difference.interval() if difference else None, metric),
        f"{name}_pairs": difference.n if difference else None,
    }


def _tuned_values(comparison: Comparison, arm: ArmResult) -> dict[str, Any]:
    """The chosen value of each field that was tuned beside the learning rate."""
    values: dict[str, Any] = {}
    for index, field in enumerate(arm.fields):
        if field in comparison.design.tuned:
            values[field] = None if arm.setting is None else arm.setting[index]
            values[f"{field}_edge"] = arm.edges.get(field, "")
    return values


def _raw_changes(arm: ArmResult) -> str | None:
    """As a JSON object."""
    return None if arm.changes is None else json.dumps(dict(arm.changes), ensure_ascii=False)


def mean_text(summary: Summary | None, metric: Metric = TOP1) -> str:
    """`97.22 ± 0.34 (n=3)` from fractions; `1.2345 ± 0.0123 (n=3)` in nats."""
    if summary is None:
        return ABSENT
    spread = "" if summary.sd is None else f" ± {number_text(summary.sd, metric)}"
    return f"{number_text(summary.mean, metric)}{spread} (n={summary.n})"


def _runs_cell(arm: ArmResult) -> str:
    outcomes = arm.outcomes
    broken = [f"{outcomes[o]} {o.value}" for o in (Outcome.FAILED, Outcome.DIVERGED) if outcomes[o]]
    remark = f" ({listed(broken)})" if broken else ""
    return f"{outcomes[Outcome.COMPLETED]}/{sum(outcomes.values())}{remark}"
