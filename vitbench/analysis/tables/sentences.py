"""What did a comparison find? One sentence, in which every difference has its interval."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Findings
from vitbench.analysis.comparison.wording import caveats_text, difference_text, margin_text, number_text, points
from vitbench.analysis.statistics.verdicts import Decision, Verdict
from vitbench.analysis.writing.words import listed
from vitbench.records.metrics import Metric

WORDS = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.EQUIVALENT: "equivalent within {margin}",
    Verdict.AT_CEILING: "at the ceiling, where nothing can show",
    Verdict.AT_FLOOR: "at the floor, where nothing can show",
    Verdict.OPEN: "open",
    Verdict.NONE: "too few seeds for a verdict",
}
MOST_OPEN = 3
"""Open arms are named up to so many."""


def sentence(assessment: Assessment) -> str:
    """`Against cls (52.67 % after 4 epochs, 5 seeds, points with the interval that decides): equivalent within 0.5 points: gap
    −0.14 [−0.33, +0.05].`

    Arms by verdict, in the order of the study; empty without a baseline or other arms.
    """
    comparison, findings, metric = assessment.comparison, assessment.findings, assessment.comparison.metric
    if comparison.baseline is None or not findings.arms:
        return ""
    parts = []
    for verdict, words in WORDS.items():
        decisions = {
            label: finding.decision for label, finding in findings.arms.items() if finding.decision.verdict is verdict
        }
        if decisions:
            if verdict is Verdict.OPEN and len(decisions) > MOST_OPEN:
                arms = [_range(list(decisions.values()), metric)]
            else:
                arms = [_arm(label, decision, metric) for label, decision in decisions.items()]
            parts.append(f"{words.format(margin=margin_text(metric.margin, metric))}: {listed(arms)}")
    pairs = {finding.decision.difference.n for finding in findings.arms.values() if finding.decision.difference}
    seeds = f"{min(pairs, default=0)} to {max(pairs, default=0)}" if len(pairs) > 1 else f"{max(pairs, default=0)}"
    reached = f"{_reached(comparison)}{seeds} seeds, {metric.unit} with the interval that decides"
    return (
        f"{_by(comparison)}gainst {comparison.reference_text} ({reached}): {'; '.join(parts)}."
        f"{_interactions(findings, metric)}"
    )


def _by(comparison: Comparison) -> str:
    """`A`, or `By loss, a`, and whether that was declared before the runs."""
    words = comparison.metric.words
    if not comparison.metric_is_declared:
        return f"By {words}, which was not declared, a"
    if comparison.earlier_metrics:
        return f"By {words}, declared after some of the runs, a"
    return "A" if comparison.metric.is_top1 else f"By {words}, a"


def _interactions(findings: Findings, metric: Metric) -> str:
    """` Together, beyond the sum of both: less for RoPE with gap −1.03 [−2.00, −0.10].`; empty where there are none."""
    more, less = ("more", "less") if metric.larger_is_better else ("better", "worse")
    words = {Verdict.BETTER: f"{more} for", Verdict.WORSE: f"{less} for", Verdict.EQUIVALENT: "as expected for"}
    parts, still_open = [], []
    for (first, second), decision in findings.interactions.items():
        if decision.verdict in words:
            parts.append(f"{words[decision.verdict]} {first} with {_arm(second, decision, metric)}")
        elif decision.verdict is Verdict.OPEN:
            still_open.append(decision)
    if still_open:
        parts.append(f"open: {_range(still_open, metric, of='pair')}")
    return f" Together, beyond the sum of both: {'; '.join(parts)}." if parts else ""


def _reached(comparison: Comparison) -> str:
    """`52.67 % after 4 epochs, ` of the baseline; empty where arms are compared with several."""
    baseline = comparison.baseline
    reached = None if baseline is None else comparison.summary(baseline)
    if comparison.design.held_factors or reached is None:
        return ""
    epochs = "1 epoch" if comparison.epochs == 1 else f"{comparison.epochs:g} epochs"
    unit = comparison.metric.value_unit
    return f"{number_text(reached.mean, comparison.metric)}{unit and f' {unit}'} after {epochs}, "


def _arm(label: str, decision: Decision, metric: Metric) -> str:
    """`gap −0.14 [−0.33, +0.05]`, and what its runs leave out."""
    caveats = caveats_text(decision.caveats)
    return f"{label} {difference_text(decision, metric)}" + (f" ({caveats})" if caveats else "")


def _range(decisions: Sequence[Decision], metric: Metric, *, of: str = "arm") -> str:
    """`6 arms, differences of −3.06 to +0.90, intervals up to 1.70 points either side`."""
    means = [decision.difference.mean for decision in decisions if decision.difference is not None]
    reaches = [decision.interval.half_width for decision in decisions if decision.interval is not None]
    number = f"1 {of}" if len(decisions) == 1 else f"{len(decisions)} {of}s"
    text = f"{number}, differences of {points(min(means), metric)} to {points(max(means), metric)}"
    return f"{text}, intervals up to {number_text(max(reaches), metric)} {metric.unit} either side" if reaches else text
