"""Is an arm better than the baseline, worse, equivalent within a margin, or open? docs/statistics.md: how often we err."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from vitbench.analysis.statistics.pairing import Estimate, Interval, PairedDifference

ALPHA = 0.05
FEWEST_SEEDS = 3
MARGIN = 0.005
"""Half a point of accuracy. It lies above what the literature calls no difference (the kinds of position embedding of
Dosovitskiy et al. 2021, Table 8, within 0.33 points; ±0.2 between runs of Beyer et al. 2022) and below what it acts on
(from 1.5 points for pooling to 4.6 for a convolutional stem)."""

Key = TypeVar("Key", bound=Hashable)


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    AT_CEILING = "at the ceiling"
    AT_FLOOR = "at the floor"
    OPEN = "open"
    NONE = "no verdict"

    @property
    def is_settled(self) -> bool:
        """Whether it claims something of the arm."""
        return self in (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT)


@dataclass(frozen=True)
class Caveats:
    """What is missing from the runs behind a difference."""

    diverged: int = 0
    """Runs of the arm that diverged at its reported setting, and so are in no pair."""
    baseline_diverged: int = 0
    at_edge: bool = False
    """Whether the arm's setting is at the edge of the grid, so that a better one may lie beyond."""
    baseline_at_edge: bool = False

    def diverged_may_turn(self, verdict: Verdict) -> bool:
        """Whether the verdict could change if runs that diverged counted, each as worse than any pair."""
        against = {
            Verdict.BETTER: self.diverged,
            Verdict.WORSE: self.baseline_diverged,
            Verdict.EQUIVALENT: self.diverged + self.baseline_diverged,
        }
        return bool(against.get(verdict))

    def edge_may_turn(self, verdict: Verdict) -> bool:
        """Whether the verdict could change with a better setting beyond the grid."""
        raised = {Verdict.WORSE: self.at_edge, Verdict.BETTER: self.baseline_at_edge}
        return raised.get(verdict, self.at_edge or self.baseline_at_edge)


NO_CAVEATS = Caveats()


@dataclass(frozen=True)
class Decision:
    """What one arm of a study comes to."""

    verdict: Verdict
    difference: PairedDifference | None
    margin: float
    interval: Interval | None = None
    """The interval that decided: of the two-sided test, as wide as Holm's correction makes it; for 'equivalent', that of the
    two one-sided tests. None where none decided: too few seeds, nothing to test by, or runs that diverged."""
    confidence: float | None = None
    """That of `interval`: 0.95 for an arm that is tested alone."""
    over_images: bool = False
    """Whether seeds spread by less than one test image, and the tests were over seeds and images."""
    adjusted_p: float | None = None
    """After Holm's correction over the arms tested together; None where nothing was tested."""
    within_margin: bool = False
    """Whether equivalence was shown, whether or not the difference is significant."""
    caveats: Caveats = NO_CAVEATS

    @property
    def difference_lies_within(self) -> bool:
        """Whether the interval that decided lies within the margin, for better or worse."""
        if self.interval is None or self.verdict not in (Verdict.BETTER, Verdict.WORSE):
            return False
        return self.within_margin and max(map(abs, self.interval)) <= self.margin


def decide(
    differences: Mapping[Key, PairedDifference | None],
    *,
    over_images: Mapping[Key, Estimate] | None = None,
    saturated: Mapping[Key, Verdict] | None = None,
    margin: float = MARGIN,
    larger_is_better: bool = True,
    caveats: Mapping[Key, Caveats] | None = None,
) -> dict[Key, Decision]:
    """The verdict on every arm of a study, tested together. The first case that applies, of:

    1. no verdict: fewer than 3 seeds have both the arm and the baseline (None: no seed has).
    2. at the ceiling, at the floor, or open: `saturated` says so. It claims nothing.
    3. better, worse: the two-sided test has p ≤ ALPHA after Holm's correction over the arms that come this far; the sign
       of the mean says which. `within_margin` where 4 holds too.
    4. equivalent: both one-sided tests against ±margin have p ≤ ALPHA, that is, the (1 − 2 ALPHA) interval lies within
       ±margin. Not corrected for the number of arms.
    5. open: neither was shown, or there is nothing to test by.

    The tests are paired t-tests over seeds. Where seeds spread less than one test image, as where the difference is the
    same at every seed, they are t-tests over seeds and images: of `over_images`, which has these differences alone.

    A run that diverged is in no pair, and is worse than any. So 'better' and 'equivalent' become open where a run of the
    arm diverged (`caveats`), 'worse' and 'equivalent' where one of the baseline did.

    `margin` is in the unit of the differences. Whether they are of what is better or worse where it is larger,
    `larger_is_better` says; their signs stay as they are. Raises ValueError unless it is above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin:g} must be above 0, as a fraction: 0.005 is half a point")
    over_images, saturated, caveats = over_images or {}, saturated or {}, caveats or {}
    testable = {key: pairs for key, pairs in differences.items() if pairs is not None and pairs.n >= FEWEST_SEEDS}
    estimates = {
        key: estimate
        for key, difference in testable.items()
        if key not in saturated and (estimate := over_images.get(key, difference.estimate)) is not None
    }
    adjusted, confidences = _corrected({key: estimate.p_value for key, estimate in estimates.items()})
    decisions = {}
    for key, difference in differences.items():
        decision = Decision(Verdict.NONE, difference, margin, caveats=caveats.get(key, NO_CAVEATS))
        if key in estimates:
            decision = replace(decision, adjusted_p=adjusted[key], over_images=key in over_images)
            decision = _tested(decision, estimates[key], adjusted[key], confidences[key], larger_is_better)
        elif key in testable:
            decision = replace(decision, verdict=saturated.get(key, Verdict.OPEN))
        decisions[key] = decision
    return decisions


def _tested(
    decision: Decision, estimate: Estimate, adjusted_p: float, confidence: float, larger_is_better: bool
) -> Decision:
    """A decision with its verdict, and the interval that decided."""
    equivalent = estimate.equivalence_p_value(decision.margin) <= ALPHA
    if adjusted_p <= ALPHA:
        verdict = Verdict.BETTER if (estimate.mean > 0) == larger_is_better else Verdict.WORSE
    elif equivalent:
        verdict, confidence = Verdict.EQUIVALENT, 1 - 2 * ALPHA
    else:
        verdict = Verdict.OPEN
    if decision.caveats.diverged_may_turn(verdict):
        return replace(decision, verdict=Verdict.OPEN)
    within = equivalent and not decision.caveats.diverged_may_turn(Verdict.EQUIVALENT)
    interval = estimate.interval(confidence)
    return replace(decision, verdict=verdict, interval=interval, confidence=confidence, within_margin=within)


def _corrected(p_values: Mapping[Key, float]) -> tuple[dict[Key, float], dict[Key, float]]:
    """(p by Holm's correction, the confidence of the interval that it makes of each arm).

    Holm holds the smallest p of m against ALPHA / m, the next against ALPHA / (m − 1), …, and stops at the first that
    fails, whose level all that are left keep. The interval of an arm's own level leaves out 0 exactly where its
    corrected p is at most ALPHA.
    """
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    shown = sum(p <= ALPHA for p in adjusted.values())
    ranked = sorted(p_values, key=p_values.__getitem__)
    steps = {key: len(ranked) - min(rank, shown) for rank, key in enumerate(ranked)}
    return adjusted, {key: 1 - ALPHA / steps[key] for key in p_values}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method (1979), in the order given.

    The smallest of m is multiplied by m, the next by m − 1, …; none is below one that was smaller, none above 1. The
    chance of any false 'better' or 'worse' in a study is then at most ALPHA, however arms depend on each other.

    Equal to statsmodels' `multipletests(method="holm")`, which takes a second to import and collects garbage at each
    call.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
