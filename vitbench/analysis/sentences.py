"""What a comparison found, in one sentence: every difference that it states has its interval."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.analysis.comparison import Comparison
from vitbench.analysis.notes import listed
from vitbench.analysis.pairing import PairedDifference, points
from vitbench.analysis.verdict_cells import interval_text
from vitbench.analysis.verdicts import Decision, Verdict, points_of

WORDS = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.EQUIVALENT: "equivalent within {margin} points",
    Verdict.INCONCLUSIVE: "not decided",
    Verdict.NONE: "too few seeds for a verdict",
}
MOST_UNDECIDED = 3
"""Beyond that, of the arms that are not decided only those are named whose own interval leaves out 0."""


def sentence(comparison: Comparison) -> str:
    """`Against cls (52.67 % after 4 epochs, 5 seeds, points with 95 % intervals): equivalent within 0.5 points: gap −0.14
    [−0.33, +0.05].`

    Arms by verdict, in the order of the study; empty without a baseline or other arms.
    """
    findings = comparison.findings
    if comparison.baseline is None or not findings.arms:
        return ""
    parts = []
    for verdict, words in WORDS.items():
        decisions = {
            label: finding.decision for label, finding in findings.arms.items() if finding.decision.verdict is verdict
        }
        if decisions:
            several = verdict is Verdict.INCONCLUSIVE and len(decisions) > MOST_UNDECIDED
            named = {label: one for label, one in decisions.items() if not several or _leaves_out_0(one.difference)}
            arms = [_arm(label, decision) for label, decision in named.items()]
            if others := [one.difference for label, one in decisions.items() if label not in named and one.difference]:
                arms.append(_range(others, more=bool(named)))
            parts.append(f"{words.format(margin=points_of(findings.margin))}: {listed(arms)}")
    pairs = {finding.decision.difference.n for finding in findings.arms.values() if finding.decision.difference}
    seeds = f"{min(pairs, default=0)} to {max(pairs, default=0)}" if len(pairs) > 1 else f"{max(pairs, default=0)}"
    reached = f"{_reached(comparison)}{seeds} seeds, points with 95 % intervals"
    return f"Against {comparison.reference} ({reached}): {'; '.join(parts)}.{_interactions(comparison)}"


def _interactions(comparison: Comparison) -> str:
    """` Together, beyond the sum of both: less for RoPE with gap −1.03 [−2.00, −0.10].`; empty where there are none."""
    words = {Verdict.BETTER: "more for", Verdict.WORSE: "less for", Verdict.EQUIVALENT: "as expected for"}
    parts, rest = [], []
    for (first, second), decision in comparison.findings.interactions.items():
        if decision.verdict in words:
            parts.append(f"{words[decision.verdict]} {first} with {_arm(second, decision)}")
        elif decision.difference is not None and decision.verdict is not Verdict.NONE:
            rest.append(decision.difference)
    if rest:
        parts.append(f"not decided: {_range(rest, more=False, of='pair')}")
    return f" Together, beyond the sum of both: {'; '.join(parts)}." if parts else ""


def _reached(comparison: Comparison) -> str:
    """`52.67 % after 4 epochs, ` of the baseline; empty where arms are compared with several."""
    baseline = comparison.baseline
    if comparison.within or baseline is None or baseline.test_top1 is None:
        return ""
    epochs = "1 epoch" if comparison.epochs == 1 else f"{comparison.epochs:g} epochs"
    return f"{100 * baseline.test_top1.mean:.2f} % after {epochs}, "


def _arm(label: str, decision: Decision) -> str:
    """`gap −0.14 [−0.33, +0.05]`, and what its runs leave out."""
    caveats = decision.caveats.words
    return f"{label} {interval_text(decision.difference)}" + (f" ({caveats})" if caveats else "")


def _leaves_out_0(difference: PairedDifference | None) -> bool:
    interval = None if difference is None else difference.interval()
    return interval is not None and not interval.low <= 0 <= interval.high


def _range(differences: Sequence[PairedDifference], *, more: bool, of: str = "arm") -> str:
    """`6 arms, differences of −3.06 to +0.90, intervals up to 1.70 points either side`; `and 6 arms more, …` after others."""
    means = [one.mean for one in differences]
    reaches = [interval.half_width for one in differences if (interval := one.interval()) is not None]
    arms = f"1 {of}" if len(differences) == 1 else f"{len(differences)} {of}s"
    text = f"{'and ' * more}{arms}{' more' * more}, differences of {points(min(means))} to {points(max(means))}"
    if not reaches:
        return f"{text}, without intervals: the same at every seed"
    return f"{text}, intervals up to {100 * max(reaches):.2f} points either side"
