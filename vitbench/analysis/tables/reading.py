"""How are the verdicts of a comparison to be read? The rule, each interval's question, and what pairing was worth."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.growth import series_of
from vitbench.analysis.comparison.wording import margin_text
from vitbench.analysis.statistics.narrowing import StudyNarrowing
from vitbench.analysis.statistics.power import MOST_SEEDS, POWER
from vitbench.analysis.statistics.power_law import FURTHEST
from vitbench.analysis.statistics.verdicts import ALPHA, FEWEST_SEEDS
from vitbench.analysis.tables.further import p_text
from vitbench.analysis.writing.words import seeds_text
from vitbench.records.metrics import TOP1, Metric
from vitbench.text import counted


def reading(assessment: Assessment) -> list[str]:
    """How to read the verdicts: the rule, what each column says, and what pairing gained."""
    comparison, findings = assessment.comparison, assessment.findings
    sentences = [
        *_rule_of(assessment),
        *_over_images(comparison.metric),
        "Detectable difference: the smallest true difference that so many paired seeds detect with "
        f"{100 * POWER:g} % power, at the spread "
        "seen and the strictest step of Holm's correction. Seeds to settle: how many would settle the verdict, at the mean "
        f"and spread seen; up to {MOST_SEEDS}.",
    ]
    if any(finding.at_baseline_setting for finding in findings.arms.values()):
        sentences += _judged_on(comparison)
    if findings.narrowing:
        sentences.append(narrowing_text(findings.narrowing, "accuracies" if comparison.metric.is_top1 else "values"))
    if any(series.law for series in series_of(comparison)):
        sentences.append(
            "Power laws: a straight line through the logarithm of the error (1 − top-1 at each arm's own setting) over that "
            "of the size, at every seed; the mean slope, with its 95 % t-interval over seeds. Furthest from the law: of an "
            f"arm's mean error; beyond {100 * (FURTHEST - 1):.0f} % the errors follow no power law, and no slope is given."
        )
    if test := findings.overall_interaction:
        sentences.append(
            f"Interaction of both factors over all levels: F({test.numerator_degrees}, {test.denominator_degrees}) = "
            f"{test.f:.2f}, {'p ' if test.p_value < 0.001 else 'p = '}{p_text(test.p_value)} (repeated measures over seeds)."
        )
    return sentences


def _over_images(metric: Metric) -> list[str]:
    """Whom verdicts are about, and of top-1, what is known of single images."""
    if not metric.is_top1:
        return [
            "Verdicts are about new seeds on the same test images; the CSV has an interval for P(arm better than baseline). "
            "Seeds won: at which the arm is better; a tie counts half."
        ]
    return [
        "Verdicts are about new seeds on the same test images; the CSV has an interval for new test images too, and one for "
        "P(arm > baseline). Variance from test images: the part of that wider interval's variance that more test images would "
        "reduce, and more seeds would not. Seeds won: at which the arm is more accurate; a tie counts half. Images only one "
        "gets: that only the arm, and that only the baseline, gets right; means over seeds."
    ]


def _rule_of(assessment: Assessment) -> list[str]:
    comparison, design = assessment.comparison, assessment.comparison.design
    num_arms = len(design.compared_arms) if design.looks else assessment.findings.num_tested
    return rule(num_arms, metric=comparison.metric, looks=design.looks)


def rule(num_arms: int, *, metric: Metric = TOP1, looks: Sequence[int] = ()) -> list[str]:
    """The rule of `decide` as sentences to be printed under a table; `num_arms` were corrected for. `looks`: where seeds are
    added until arms are settled.
    """
    arms = counted(num_arms, "arm") if num_arms else "the arms tested, here none"
    within = f"±{margin_text(metric.margin, metric)}"
    of_top1 = [
        "At the ceiling: every run of both gets every test image right. At the floor: no run of either is right more often "
        "than chance. Neither says anything of the arm: take harder data, or fewer images.",
    ]
    over_images = [
        "Where differences spread over seeds by less than one test image, the tests are over seeds and images.",
    ]
    no_spread = ["Where the difference is the same at every seed there is nothing to test by, and the verdict is open."]
    at_looks = f" Each look is stricter than that, so that all looks together are wrong no more often than {ALPHA:g}."
    return [
        f"No verdict: fewer than {FEWEST_SEEDS} seeds have both the arm and the baseline"
        f"{f', or the first look, after {looks[0]}, is not reached' if looks else ''}.",
        *(of_top1 if metric.is_top1 else []),
        f"Better, worse: the paired t-test over seeds has p ≤ {ALPHA:g} after Holm's correction over {arms}.",
        f"Equivalent: neither, but two one-sided t-tests at {ALPHA:g} each show that the difference lies within {within}, not "
        f"corrected for the number of arms. 'Within' after better or worse: the interval lies within that margin too."
        + (at_looks if looks else ""),
        "Open: the evidence does not decide. A verdict is open too, and has no interval, where runs that diverged could "
        "change it, if each counted as worse than any other; and where all runs of both get the same images right.",
        *(over_images if metric.is_top1 else no_spread),
        _about_the_interval(num_arms, looks),
    ]


def _about_the_interval(num_arms: int, looks: Sequence[int]) -> str:
    begin = (
        "The interval beside a verdict is the one that decided it. Where the verdict is better or worse it excludes 0; where "
        "it is open it includes 0. Its confidence"
    )
    if looks:
        return (
            f"{begin}, over all looks together, is 1 − {ALPHA:g} / {max(num_arms, 1)}; it ends at 0 where Holm's correction "
            f"shows an arm that it alone would not. Where the verdict is equivalent, it is {1 - ALPHA:g}; it lies within the "
            "margin and holds 0."
        )
    return (
        f"{begin} is 1 − {ALPHA:g} / k, where Holm's correction multiplied the arm's p by k, at most the number of arms. "
        f"Where the verdict is equivalent, it is the {100 * (1 - 2 * ALPHA):g} % interval, within the margin."
    )


def _judged_on(comparison: Comparison) -> list[str]:
    """Whether the seeds that arms are judged on at the baseline's setting were used to choose it."""
    baseline = comparison.baseline
    if baseline is None or baseline.is_fixed:
        return []
    noun = comparison.design.short_noun
    what = f"At the baseline's {noun}, where it is not the arm's own"
    looks = comparison.design.looks
    if held_out := [seed for seed in baseline.held_out_seeds if not looks or seed < looks[0]]:
        return [f"{what}: over held-out {seeds_text(held_out)} alone, which were not used to choose it."]
    return [f"{what}: that {noun} was chosen on the same seeds, so the verdict errs towards worse."]


def narrowing_text(narrowing: StudyNarrowing, of: str = "accuracies") -> str:
    fewest, most = narrowing.num_seeds
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    correlation = f"{narrowing.correlation:+.2f}".replace("-", "−")
    return (
        f"Pairing by seed makes intervals {narrowing.ratio:.2f} times as wide as those of the same runs taken as unpaired "
        f"(Welch); {of} of arm and baseline correlate by {correlation} over seeds "
        f"({counted(narrowing.num_arms, 'arm')}, {seeds})."
    )
