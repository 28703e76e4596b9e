"""Which tables follow that of the arms? Verdicts, interactions, fine-tuning, power laws and the literature's claims."""

from __future__ import annotations

from typing import Any

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding, Findings
from vitbench.analysis.comparison.fine_tuning import gains
from vitbench.analysis.comparison.growth import series_of
from vitbench.analysis.comparison.wording import difference_text, settle_text, verdict_text, with_interval
from vitbench.analysis.statistics.pairing import Interval
from vitbench.analysis.statistics.power import POWER
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict
from vitbench.analysis.tables.robustness import robustness
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT, filled, interval_text, significant

CLAIM_HEADINGS = ("claim", "paper", "here", "verdict")


def further_tables(assessment: Assessment) -> list[Table]:
    """Those that have a row."""
    comparison = assessment.comparison
    tables = (verdicts(assessment), interactions(assessment), fine_tuning(comparison), power_laws(comparison))
    return [table for table in (*tables, claims(assessment), *robustness(assessment)) if table]


def verdicts(assessment: Assessment) -> Table:
    """A row for every arm but the baseline; empty where no arm has a verdict."""
    comparison, findings = assessment.comparison, assessment.findings
    noun, detectable = comparison.design.short_noun, f"detectable difference (points, {100 * POWER:g} % power)"
    rows = []
    for label, finding in findings.arms.items():
        decision, images = finding.decision, finding.images_only_one_gets
        wins, crossed = finding.outperforming, finding.seeds_and_images
        rows.append(
            {
                "arm": label,
                "verdict": verdict_text(decision),
                "difference (points)": difference_text(decision) or ABSENT,
                "p, Holm": p_text(decision.adjusted_p),
                "seeds won": ABSENT if wins is None else f"{wins.wins + wins.ties / 2:g} of {wins.n}",
                "variance from test images": filled("{:.0f} %", in_points(crossed.image_share if crossed else None)),
                "images only one gets": ABSENT if images is None else f"{images[0]:,.0f} : {images[1]:,.0f}",
                **({f"at baseline's {noun}": at_baseline(finding)} if comparison.has_choice else {}),
                detectable: filled("{:.2f}", in_points(finding.smallest_difference)),
                "seeds to settle": _to_settle(finding),
            }
        )
    have_verdict = any(finding.decision.verdict is not Verdict.NONE for finding in findings.arms.values())
    return Table("Verdicts", rows if have_verdict else (), texts=("arm", "verdict"))


def interactions(assessment: Assessment) -> Table:
    """A row for every pair of levels of two factors; empty where a study has none."""
    decisions = assessment.findings.interactions
    factors = list(next(iter(assessment.comparison.design.factors.values()), ()))
    words = {Verdict.BETTER: "more together", Verdict.WORSE: "less together", Verdict.EQUIVALENT: "no interaction"}
    rows = [
        {
            **dict(zip(factors, levels, strict=True)),
            "together, beyond the sum of both (points)": difference_text(decision) or ABSENT,
            "p, Holm": p_text(decision.adjusted_p),
            "verdict": words.get(decision.verdict) or verdict_text(decision),
        }
        for levels, decision in decisions.items()
    ]
    return Table("Interactions", rows, texts=(*factors, "verdict"))


def power_laws(comparison: Comparison) -> Table:
    """How fast the error falls as something grows alone; empty where nothing does at three sizes and seeds."""
    rows = []
    for series in series_of(comparison):
        if (law := series.law) is None:
            continue
        ratios = [2**-exponent for exponent in (law.exponent, law.high, law.low)]
        slopes = [-exponent for exponent in (law.exponent, law.high, law.low)]
        unit, name = (1e12, " TFLOP") if series.unit == "training FLOPs" else (1.0, "")
        first, last = (significant(size / unit) for size in (series.sizes[0], series.sizes[-1]))
        rows.append(
            {
                "what grows": series.name,
                "over": series.unit,
                "sizes": f"{first} to {last}{name}, {len(series.sizes)} of them",
                "error × at twice the size": interval_text(*ratios, digits=".3f") if law.holds else ABSENT,
                "slope": interval_text(*slopes, digits="+.3f").replace("-", "−") if law.holds else ABSENT,
                "furthest from the law": f"{100 * (law.worst - 1):.2g} %" + ("" if law.holds else ": no power law"),
                "seeds": str(law.num_seeds),
            }
        )
    return Table("Power laws", rows, texts=("what grows", "over"))


def fine_tuning(comparison: Comparison) -> Table:
    """A row for each arm that was trained further and has a counterpart that was not."""
    rows = [
        {
            "arm": gain.arm.label,
            "against": gain.against.label,
            "gained (points, 95 % for each arm by itself)": (
                ABSENT if gain.difference is None else with_interval(gain.difference, gain.difference.interval())
            ),
        }
        for gain in gains(comparison)
    ]
    return Table("Gain from fine-tuning", rows, texts=("arm", "against"))


def claims(assessment: Assessment) -> Table:
    """What the literature says on the study, and whether this comparison agrees."""
    rows = [
        {"claim": row.claim, "paper": row.paper, "here": row.ours, "verdict": row.judgement.value}
        for row in assessment.findings.claims
    ]
    return Table("What the literature says", rows, texts=CLAIM_HEADINGS)


def raw(findings: Findings, label: str) -> dict[str, Any]:
    """An arm's verdict and what it rests on at full precision, units in the names; None where there is none."""
    finding = findings.arms.get(label)
    decision = None if finding is None else finding.decision
    crossed = finding.seeds_and_images if finding else None
    wins = finding.outperforming if finding else None
    won = wins.interval() if wins else None
    return {
        "verdict": decision.verdict.value if decision else "",
        "within_margin": decision.within_margin if decision else None,
        "margin_points": 100 * MARGIN,
        "p_holm": decision.adjusted_p if decision else None,
        **raw_interval("interval", decision.interval if decision else None),
        "interval_confidence": decision.confidence if decision else None,
        **raw_interval("difference_seeds_and_images_ci95", crossed.estimate.interval() if crossed else None),
        "share_of_variance_from_images": crossed.image_share if crossed else None,
        "probability_of_outperforming": wins.probability if wins else None,
        "probability_of_outperforming_ci95_low": won.low if won else None,
        "probability_of_outperforming_ci95_high": won.high if won else None,
        "outperforming": wins.reading if wins else "",
        "smallest_difference_found_points": in_points(finding.smallest_difference if finding else None),
        "seeds_to_settle": finding.to_settle.num_seeds if finding and finding.to_settle else None,
    }


def in_points(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def raw_interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    """`name_low_points` and `name_high_points`."""
    low, high = (None, None) if interval is None else (100 * interval.low, 100 * interval.high)
    return {f"{name}_low_points": low, f"{name}_high_points": high}


def p_text(p_value: float | None) -> str:
    return "< 0.001" if p_value is not None and p_value < 0.001 else filled("{:.3f}", p_value)


def at_baseline(finding: Finding, *, with_pairs: bool = False) -> str:
    """The difference at the baseline's setting and its verdict; `with_pairs`: `(n=3)` where it is over fewer seeds."""
    decision = finding.at_baseline_setting
    if decision is None:
        return "the same"
    if decision.difference is None:
        return ABSENT
    at_chosen, pairs = finding.decision.difference, decision.difference.n
    fewer = with_pairs and at_chosen is not None and pairs < at_chosen.n and decision.interval is not None
    return f"{difference_text(decision)}{f' (n={pairs})' if fewer else ''}: {verdict_text(decision)}"


def _to_settle(finding: Finding) -> str:
    if finding.to_settle is not None:
        return settle_text(finding.to_settle)
    if finding.decision.verdict in (Verdict.AT_CEILING, Verdict.AT_FLOOR):
        return "no number: other data"
    if finding.decision.over_images and finding.decision.verdict is Verdict.OPEN:
        return "no number: more test images"
    return "settled" if finding.decision.verdict.is_settled else ABSENT
