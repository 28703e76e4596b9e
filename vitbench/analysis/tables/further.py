"""Which tables follow that of the arms? Verdicts, other metrics, interactions, fine-tuning, power laws, claims."""

from __future__ import annotations

from typing import Any

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding, Findings
from vitbench.analysis.comparison.fine_tuning import gains
from vitbench.analysis.comparison.growth import series_of
from vitbench.analysis.comparison.wording import difference_text, settle_text, verdict_text, with_interval
from vitbench.analysis.statistics.crossed import CrossedDifference
from vitbench.analysis.statistics.pairing import Interval
from vitbench.analysis.statistics.power import POWER
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.analysis.tables.robustness import robustness
from vitbench.analysis.tables.secondary import secondary
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT, filled, interval_text, significant
from vitbench.records.metrics import TOP1, Metric

CLAIM_HEADINGS = ("claim", "paper", "here", "verdict")


def further_tables(assessment: Assessment) -> list[Table]:
    """Those that have a row."""
    comparison = assessment.comparison
    first = (verdicts(assessment), secondary(comparison), interactions(assessment))
    tables = (*first, fine_tuning(comparison), power_laws(comparison))
    return [table for table in (*tables, claims(assessment), *robustness(assessment)) if table]


def verdicts(assessment: Assessment) -> Table:
    """A row for every arm but the baseline; empty where no arm has a verdict."""
    comparison, findings = assessment.comparison, assessment.findings
    noun, metric = comparison.design.short_noun, comparison.metric
    detectable = f"detectable difference ({metric.unit}, {100 * POWER:g} % power)"
    rows = []
    for label, finding in findings.arms.items():
        decision, images = finding.decision, finding.images_only_one_gets
        wins, crossed = finding.outperforming, finding.seeds_and_images
        rows.append(
            {
                "arm": label,
                "verdict": verdict_text(decision, metric),
                f"difference ({metric.unit})": difference_text(decision, metric) or ABSENT,
                "p, Holm": p_text(decision.adjusted_p),
                "seeds won": ABSENT if wins is None else f"{wins.wins + wins.ties / 2:g} of {wins.n}",
                **(_over_images(crossed, images) if metric.is_top1 else {}),
                **({f"at baseline's {noun}": at_baseline(finding)} if comparison.has_choice else {}),
                detectable: filled(f"{{:.{metric.digits}f}}", in_unit(finding.smallest_difference, metric)),
                "seeds to settle": _to_settle(finding),
            }
        )
    have_verdict = any(finding.decision.verdict is not Verdict.NONE for finding in findings.arms.values())
    return Table("Verdicts", rows if have_verdict else (), texts=("arm", "verdict"))


def _over_images(crossed: CrossedDifference | None, images: tuple[float, float] | None) -> dict[str, str]:
    return {
        "variance from test images": filled("{:.0f} %", in_unit(crossed.image_share if crossed else None)),
        "images only one gets": ABSENT if images is None else f"{images[0]:,.0f} : {images[1]:,.0f}",
    }


def interactions(assessment: Assessment) -> Table:
    """A row for every pair of levels of two factors; empty where a study has none."""
    decisions, metric = assessment.findings.interactions, assessment.comparison.metric
    factors = list(next(iter(assessment.comparison.design.factors.values()), ()))
    more, less = ("more", "less") if metric.larger_is_better else ("better", "worse")
    words = {Verdict.BETTER: f"{more} together", Verdict.WORSE: f"{less} together"}
    words[Verdict.EQUIVALENT] = "no interaction"
    rows = [
        {
            **dict(zip(factors, levels, strict=True)),
            f"together, beyond the sum of both ({metric.unit})": difference_text(decision, metric) or ABSENT,
            "p, Holm": p_text(decision.adjusted_p),
            "verdict": words.get(decision.verdict) or verdict_text(decision, metric),
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


def raw(findings: Findings, label: str, metric: Metric) -> dict[str, Any]:
    """An arm's verdict and what it rests on at full precision, units in the names; None where there is none."""
    finding, unit = findings.arms.get(label), metric.unit
    decision = None if finding is None else finding.decision
    crossed = finding.seeds_and_images if finding else None
    wins = finding.outperforming if finding else None
    won = wins.interval() if wins else None
    return {
        "verdict": decision.verdict.value if decision else "",
        "within_margin": decision.within_margin if decision else None,
        f"margin_{unit}": metric.scale * metric.margin,
        "p_holm": decision.adjusted_p if decision else None,
        **raw_interval("interval", decision.interval if decision else None, metric),
        "interval_confidence": decision.confidence if decision else None,
        **raw_interval("difference_seeds_and_images_ci95", crossed.estimate.interval() if crossed else None),
        "share_of_variance_from_images": crossed.image_share if crossed else None,
        "probability_of_outperforming": wins.probability if wins else None,
        "probability_of_outperforming_ci95_low": won.low if won else None,
        "probability_of_outperforming_ci95_high": won.high if won else None,
        "outperforming": wins.reading if wins else "",
        f"smallest_difference_found_{unit}": in_unit(finding.smallest_difference if finding else None, metric),
        "seeds_to_settle": finding.to_settle.num_seeds if finding and finding.to_settle else None,
    }


def in_unit(number: float | None, metric: Metric = TOP1) -> float | None:
    """As it is written: points from a fraction, nats as they are."""
    return None if number is None else metric.scale * number


def raw_interval(name: str, interval: Interval | None, metric: Metric = TOP1) -> dict[str, float | None]:
    """`name_low_points` and `name_high_points`, or in the metric's unit."""
    low, high = (None, None) if interval is None else (metric.scale * interval.low, metric.scale * interval.high)
    return {f"{name}_low_{metric.unit}": low, f"{name}_high_{metric.unit}": high}


def p_text(p_value: float | None) -> str:
    return "< 0.001" if p_value is not None and p_value < 0.001 else filled("{:.3f}", p_value)


def at_baseline(finding: Finding, *, with_pairs: bool = False) -> str:
    """The difference at the baseline's setting and its verdict; `with_pairs`: `(n=3)` where it is over fewer seeds."""
    decision, metric = finding.at_baseline_setting, finding.metric
    if decision is None:
        return "the same"
    if decision.difference is None:
        return ABSENT
    at_chosen, pairs = finding.decision.difference, decision.difference.n
    fewer = with_pairs and at_chosen is not None and pairs < at_chosen.n and decision.interval is not None
    of_pairs = f" (n={pairs})" if fewer else ""
    return f"{difference_text(decision, metric)}{of_pairs}: {verdict_text(decision, metric)}"


def _to_settle(finding: Finding) -> str:
    if finding.to_settle is not None:
        return settle_text(finding.to_settle, finding.metric)
    if finding.decision.verdict in (Verdict.AT_CEILING, Verdict.AT_FLOOR):
        return "no number: other data"
    if finding.decision.over_images and finding.decision.verdict is Verdict.OPEN:
        return "no number: more test images"
    return "settled" if finding.decision.verdict.is_settled else ABSENT
