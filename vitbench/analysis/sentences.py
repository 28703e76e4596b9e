"""What a comparison found, in one sentence with every interval."""

from __future__ import annotations

from vitbench.analysis.comparison import Comparison
from vitbench.analysis.notes import listed
from vitbench.analysis.verdict_cells import interval_text
from vitbench.analysis.verdicts import Verdict, points_of

WORDS = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.EQUIVALENT: "equivalent within {margin} points",
    Verdict.INCONCLUSIVE: "not decided",
    Verdict.NONE: "too few seeds for a verdict",
}


def sentence(comparison: Comparison) -> str:
    """`Against cls (5 seeds, points with 95 % intervals): equivalent within 0.5 points: gap −0.14 [−0.33, +0.05].`

    Arms by verdict, in the order of the study; empty without a baseline or other arms.
    """
    findings, baseline = comparison.findings, comparison.baseline
    if baseline is None or not findings.arms:
        return ""
    parts = []
    for verdict, words in WORDS.items():
        arms = [
            f"{label} {interval_text(finding.decision.difference)}"
            for label, finding in findings.arms.items()
            if finding.decision.verdict is verdict
        ]
        if arms:
            parts.append(f"{words.format(margin=points_of(findings.margin))}: {listed(arms)}")
    pairs = {finding.decision.difference.n for finding in findings.arms.values() if finding.decision.difference}
    seeds = f"{min(pairs, default=0)} to {max(pairs, default=0)}" if len(pairs) > 1 else f"{max(pairs, default=0)}"
    return f"Against {baseline.label} ({seeds} seeds, points with 95 % intervals): {'; '.join(parts)}."
