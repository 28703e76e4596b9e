"""Which words and numbers stand in the tables of verdicts, interactions and claims: as text, and at full precision."""

from __future__ import annotations

from typing import Any

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding, Findings
from vitbench.analysis.comparison.fine_tuning import gains
from vitbench.analysis.comparison.growth import Series, series_of
from vitbench.analysis.comparison.wording import difference_text, settle_text, verdict_text, with_interval
from vitbench.analysis.statistics.verdicts import Decision, Verdict
from vitbench.analysis.writing.words import ABSENT, significant

Table = list[dict[str, str]]
"""Rows of equal headings."""

WORDS = (
    "arm",
    "against",
    "what grows",
    "over",
    "claim",
    "paper",
    "here",
    "verdict",
    "study",
    "comparison",
    "together",
    "budget",
    "position",
    "pool",
)
"""Headings of what is read, not compared digit by digit."""


def verdicts(assessment: Assessment) -> Table:
    """A row for every arm but the baseline, as plain text for people; empty where no arm has one."""
    comparison, findings = assessment.comparison, assessment.findings
    if all(finding.decision.verdict is Verdict.NONE for finding in findings.arms.values()):
        return []
    noun = "setting" if comparison.design.tuned else "rate"
    rows = []
    for label, finding in findings.arms.items():
        own = {
            "arm": label,
            "verdict": verdict_text(finding.decision),
            "difference (points)": difference_text(finding.decision) or ABSENT,
            "p, Holm": p_text(finding.decision.adjusted_p),
            "seeds won": _wins(finding),
            "variance from test images": _image_share(finding),
            "images only one gets": _images(finding),
        }
        if comparison.has_choice:
            own[f"at baseline's {noun}"] = _at_baseline(finding)
        own["detectable difference (points, 80 % power)"] = (
            ABSENT if finding.smallest_difference is None else f"{100 * finding.smallest_difference:.2f}"
        )
        own["seeds to settle"] = _to_settle(finding)
        rows.append(own)
    return rows


def interactions(assessment: Assessment) -> Table:
    """A row for every pair of levels of two factors; empty where a study has none."""
    decisions = assessment.findings.interactions
    if not decisions:
        return []
    first, second = next(iter(assessment.comparison.design.factors.values()))
    return [
        {
            first: a,
            second: b,
            "together, beyond the sum of both (points)": difference_text(decision) or ABSENT,
            "p, Holm": p_text(decision.adjusted_p),
            "verdict": _interaction_words(decision),
        }
        for (a, b), decision in decisions.items()
    ]


def power_laws(comparison: Comparison) -> Table:
    """How fast the error falls as something grows alone; empty where nothing does at three sizes and seeds."""
    return [
        {
            "what grows": series.name,
            "over": series.unit,
            "sizes": _sizes(series),
            "error × at twice the size": (
                f"{2**-law.exponent:.3f} [{2**-law.high:.3f}, {2**-law.low:.3f}]" if law.holds else ABSENT
            ),
            "slope": (
                f"{-law.exponent:+.3f} [{-law.high:+.3f}, {-law.low:+.3f}]".replace("-", "−") if law.holds else ABSENT
            ),
            "furthest from the law": f"{100 * (law.worst - 1):.2g} %" + ("" if law.holds else ": no power law"),
            "seeds": str(law.num_seeds),
        }
        for series in series_of(comparison)
        if (law := series.law) is not None
    ]


def _sizes(series: Series) -> str:
    """`0.37 to 5.6 TFLOP`, `450 to 45,000`: and how many."""
    unit, name = (1e12, " TFLOP") if series.unit == "training FLOPs" else (1.0, "")
    first, last = (significant(size / unit) for size in (series.sizes[0], series.sizes[-1]))
    return f"{first} to {last}{name}, {len(series.sizes)} of them"


def fine_tuning(comparison: Comparison) -> Table:
    """A row for each arm that was trained further and has a counterpart that was not."""
    return [
        {
            "arm": gain.arm.label,
            "against": gain.against.label,
            "gained (points, 95 % for each arm by itself)": (
                ABSENT if gain.difference is None else with_interval(gain.difference, gain.difference.interval())
            ),
        }
        for gain in gains(comparison)
    ]


def claims(assessment: Assessment) -> Table:
    """What the literature says on the study, and whether this comparison agrees."""
    return [
        {"claim": row.claim, "paper": row.paper, "here": row.ours, "verdict": row.judgement.value}
        for row in assessment.findings.claims
    ]


def raw(findings: Findings, label: str) -> dict[str, Any]:
    """An arm's verdict and what it rests on at full precision, units in the names; None where there is none."""
    finding = findings.arms.get(label)
    decision = None if finding is None else finding.decision
    crossed = finding.seeds_and_images if finding else None
    images = crossed.estimate.interval() if crossed else None
    wins = finding.outperforming if finding else None
    won = wins.interval() if wins else None
    settle = finding.to_settle if finding else None
    return {
        "verdict": "" if decision is None else decision.verdict.value,
        "within_margin": None if decision is None else decision.within_margin,
        "margin_points": 100 * findings.margin,
        "p_holm": None if decision is None else decision.adjusted_p,
        "interval_low_points": 100 * decision.interval.low if decision and decision.interval else None,
        "interval_high_points": 100 * decision.interval.high if decision and decision.interval else None,
        "interval_confidence": decision.confidence if decision else None,
        "difference_seeds_and_images_ci95_low_points": None if images is None else 100 * images.low,
        "difference_seeds_and_images_ci95_high_points": None if images is None else 100 * images.high,
        "share_of_variance_from_images": crossed.image_share if crossed else None,
        "probability_of_outperforming": None if wins is None else wins.probability,
        "probability_of_outperforming_ci95_low": None if won is None else won.low,
        "probability_of_outperforming_ci95_high": None if won is None else won.high,
        "outperforming": wins.reading if wins else "",
        "smallest_difference_found_points": (
            100 * finding.smallest_difference if finding and finding.smallest_difference is not None else None
        ),
        "seeds_to_settle": None if settle is None else settle.num_seeds,
    }


def p_text(p_value: float | None) -> str:
    if p_value is None:
        return ABSENT
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _wins(finding: Finding) -> str:
    """`4 of 5`."""
    wins = finding.outperforming
    return ABSENT if wins is None else f"{wins.wins + wins.ties / 2:g} of {wins.n}"


def _image_share(finding: Finding) -> str:
    share = finding.seeds_and_images.image_share if finding.seeds_and_images else None
    return ABSENT if share is None else f"{100 * share:.0f} %"


def _images(finding: Finding) -> str:
    if finding.images_only_one_gets is None:
        return ABSENT
    mine, theirs = finding.images_only_one_gets
    return f"{mine:,.0f} : {theirs:,.0f}"


def _at_baseline(finding: Finding) -> str:
    there = finding.at_baseline_setting
    if there is None:
        return "the same"
    return f"{difference_text(there)}: {verdict_text(there)}" if there.difference else ABSENT


def _to_settle(finding: Finding) -> str:
    if finding.to_settle is not None:
        return settle_text(finding.to_settle)
    if finding.decision.verdict in (Verdict.AT_CEILING, Verdict.AT_FLOOR):
        return "no number: other data"
    if finding.decision.over_images and finding.decision.verdict is Verdict.OPEN:
        return "no number: more test images"
    return "settled" if finding.decision.verdict.is_settled else ABSENT


def _interaction_words(decision: Decision) -> str:
    words = {Verdict.BETTER: "more together", Verdict.WORSE: "less together", Verdict.EQUIVALENT: "no interaction"}
    return words.get(decision.verdict) or verdict_text(decision)
