"""How are the verdicts of a comparison to be read? The rule, each interval's question, and what pairing was worth."""

from __future__ import annotations

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.growth import series_of
from vitbench.analysis.comparison.wording import margin_text
from vitbench.analysis.statistics.interactions import FTest
from vitbench.analysis.statistics.narrowing import StudyNarrowing
from vitbench.analysis.statistics.power import MOST_SEEDS
from vitbench.analysis.statistics.power_law import FURTHEST
from vitbench.analysis.statistics.verdicts import ALPHA, FEWEST_SEEDS, MARGIN
from vitbench.analysis.tables.verdicts import p_text
from vitbench.analysis.writing.words import seeds_text
from vitbench.text import counted


def reading(assessment: Assessment) -> list[str]:
    """How to read the verdicts: the rule, each interval's question, and what pairing was worth."""
    comparison, findings = assessment.comparison, assessment.findings
    sentences = [
        *rule(findings.num_tested, margin=findings.margin),
        "Differences hold for new seeds on these test images. Variance from test images: of what is uncertain about new "
        "seeds and new images, the part that more images would reduce, and more seeds would not; the CSV has an interval for "
        "both, and one for P(arm > baseline). Seeds won: at which the arm is more accurate, ties as half. Images only one "
        "gets: means over seeds, the arm's before the baseline's.",
        "Detectable difference: the smallest true difference that so many paired seeds find in four of five studies, at the "
        "spread seen and the first, strictest step of Holm's correction. Seeds to settle: at the mean and spread seen, up to "
        f"{MOST_SEEDS}.",
    ]
    if any(finding.at_baseline_setting for finding in findings.arms.values()):
        sentences += _judged_on(comparison)
    if findings.narrowing:
        sentences.append(narrowing_text(findings.narrowing))
    if any(series.law for series in series_of(comparison)):
        sentences.append(
            "Power laws: error = 1 − top-1 at each arm's own setting, a straight line through its logarithm at every seed; "
            "the mean slope, with a 95 % t-interval over seeds. Furthest from the law: of an arm's mean error; where that "
            f"is more than {100 * (FURTHEST - 1):.0f} %, the errors follow no power law, and no slope is given."
        )
    if findings.overall_interaction:
        sentences.append(_overall(findings.overall_interaction))
    return sentences


def rule(num_arms: int, *, margin: float = MARGIN, alpha: float = ALPHA) -> list[str]:
    """The rule of `decide` as sentences to be printed under a table; `num_arms` were corrected for."""
    arms = counted(num_arms, "arm") if num_arms else "the arms tested, here none"
    within = f"±{margin_text(margin)} points"
    return [
        f"No verdict: fewer than {FEWEST_SEEDS} seeds have both the arm and the baseline.",
        "At the ceiling: every run of both gets every test image right. At the floor: no run of either is right more often "
        "than chance. Neither claims anything: take harder data, or fewer images.",
        f"Better, worse: the paired t-test over seeds has p ≤ {alpha:g} after Holm's correction over {arms}.",
        f"Equivalent: neither, and two one-sided t-tests at {alpha:g} each show the difference to lie within {within}, "
        "whatever the number of arms. 'Within' after better or worse: the interval lies there too.",
        "Open: the evidence does not decide. So it is where a run of the arm diverged and the rest would be better or "
        "equivalent, or one of the baseline and the rest would be worse or equivalent, and where all runs of both get the "
        "same images right; no interval stands there.",
        "Where differences spread over seeds by less than one test image, the tests are over seeds and images.",
        "Intervals are those that decide. They leave out 0 where the verdict is better or worse, and hold 0 where it is "
        f"open: of confidence 1 − {alpha:g} / k, where Holm's correction multiplied the arm's p by k, at most the number of "
        "arms. Where it is equivalent: 90 %, within the margin.",
    ]


def _judged_on(comparison: Comparison) -> list[str]:
    """Whether the seeds that arms are judged on at the baseline's setting were used to choose it."""
    baseline = comparison.baseline
    if baseline is None or baseline.is_fixed:
        return []
    what = f"At the baseline's {'setting' if comparison.design.tuned else 'rate'}, where it is not the arm's own"
    if baseline.held_out_seeds:
        return [f"{what}: over held-out {seeds_text(baseline.held_out_seeds)} alone, which were not used to choose it."]
    return [f"{what}: chosen for the baseline on seeds that the arm is judged on, so it errs towards worse."]


def narrowing_text(narrowing: StudyNarrowing) -> str:
    fewest, most = narrowing.num_seeds
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    correlation = f"{narrowing.correlation:+.2f}".replace("-", "−")
    return (
        f"Pairing by seed makes intervals {narrowing.ratio:.2f} times as wide as those of the same runs taken as unpaired "
        f"(Welch); accuracies of arm and baseline correlate by {correlation} over seeds "
        f"({counted(narrowing.num_arms, 'arm')}, {seeds})."
    )


def _overall(test: FTest) -> str:
    return (
        f"Interaction of both factors over all levels: F({test.numerator_degrees}, {test.denominator_degrees}) = "
        f"{test.f:.2f}, {'p ' if test.p_value < 0.001 else 'p = '}{p_text(test.p_value)} (repeated measures over seeds)."
    )
