"""What a comparison found, in one sentence: every difference that it states has its interval."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.analysis.comparison import Comparison
from vitbench.analysis.notes import listed
from vitbench.analysis.pairing import PairedDifference, points
from vitbench.analysis.verdict_cells import interval_text
from vitbench.analysis.verdicts import Verdict, points_of

WORDS = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.EQUIVALENT: "equivalent within {margin} points",
    Verdict.INCONCLUSIVE: "not decided",
    Verdict.NONE: "too few seeds for a verdict",
}
MOST_UNDECIDED = 3
"""Beyond that, arms that are not decided are counted, not named."""


def sentence(comparison: Comparison) -> str:
    """`Against cls (5 seeds, points with 95 % intervals): equivalent within 0.5 points: gap −0.14 [−0.33, +0.05].`

    Arms by verdict, in the order of the study; empty without a baseline or other arms.
    """
    findings = comparison.findings
    if comparison.baseline is None or not findings.arms:
        return ""
    parts = []
    for verdict, words in WORDS.items():
        differences = {
            label: finding.decision.difference
            for label, finding in findings.arms.items()
            if finding.decision.verdict is verdict
        }
        if differences:
            several = verdict is Verdict.INCONCLUSIVE and len(differences) > MOST_UNDECIDED
            arms = [f"{label} {interval_text(difference)}" for label, difference in differences.items()]
            text = _range([one for one in differences.values() if one]) if several else listed(arms)
            parts.append(f"{words.format(margin=points_of(findings.margin))}: {text}")
    pairs = {finding.decision.difference.n for finding in findings.arms.values() if finding.decision.difference}
    seeds = f"{min(pairs, default=0)} to {max(pairs, default=0)}" if len(pairs) > 1 else f"{max(pairs, default=0)}"
    return f"Against {comparison.reference} ({seeds} seeds, points with 95 % intervals): {'; '.join(parts)}."


def _range(differences: Sequence[PairedDifference]) -> str:
    """`6 arms, differences of −3.06 to +0.90, intervals up to 1.70 points either side`."""
    means = [one.mean for one in differences]
    reaches = [interval.half_width for one in differences if (interval := one.interval()) is not None]
    text = f"{len(differences)} arms, differences of {points(min(means))} to {points(max(means))}"
    if not reaches:
        return f"{text}, without intervals: the same at every seed"
    return f"{text}, intervals up to {100 * max(reaches):.2f} points either side"
