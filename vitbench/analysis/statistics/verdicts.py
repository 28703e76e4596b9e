"""Is an arm better than the baseline, worse, equivalent within a margin, or open? docs/statistics-checked.md: its errors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from vitbench.analysis.statistics.pairing import Estimate, Interval, PairedDifference
from vitbench.analysis.statistics.sequential import nominal_level

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

    @property
    def asks_for_seeds(self) -> bool:
        """Whether more seeds may change it, in a study that adds them until it is settled."""
        return self is Verdict.OPEN


@dataclass(frozen=True)
class Caveats:
    """What is missing from the runs behind a difference."""

    diverged: int = 0
    """Runs of the arm that diverged at its reported setting, and so are in no pair."""
    baseline_diverged: int = 0
    at_edge: bool = False
    """Whether the arm's setting is at the edge of the grid, so that a better one may lie beyond."""
    baseline_at_edge: bool = False
    seeds_added: bool = False
    """Whether seeds were added once those of a fixed number had been looked at."""

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
    """That of `interval`: 0.95 for an arm that is tested alone. Of a sequential plan, over all looks together."""
    corrected_for: int | None = None
    """How many arms Holm's correction took this one's p times; None where nothing was tested."""
    look: int | None = None
    """Of a sequential plan: the look that the verdict is of, in seeds."""
    over_images: bool = False
    """Whether seeds spread by less than one test image, and the tests were over seeds and images."""
    adjusted_p: float | None = None
    """After Holm's correction over the arms tested together; None where nothing was tested, and of a sequential plan."""
    within_margin: bool = False
    """Whether equivalence was shown, whether or not the difference is significant."""
    caveats: Caveats = NO_CAVEATS

    @property
    def difference_lies_within(self) -> bool:
        """Whether the interval that decided lies within the margin, for better or worse."""
        if self.interval is None or self.verdict not in (Verdict.BETTER, Verdict.WORSE):
            return False
        return self.within_margin and max(map(abs, self.interval)) <= self.margin


@dataclass(frozen=True)
class SequentialPlan:
    """Seeds are added until arms are settled, and looked at after so many of them."""

    looks: tuple[int, ...]
    num_arms: int
    """That are tested together, settled or not: known before the first look."""
    reached: Mapping[Any, int]
    """The look at which each arm is judged; arms before the first look are not in it."""

    @property
    def equivalence_alpha(self) -> float:
        """Two-sided. Less than 2 ALPHA, so that an arm's printed interval misses with ALPHA at most, whatever its verdict."""
        return 2 * ALPHA - ALPHA / self.num_arms


def decide(
    differences: Mapping[Key, PairedDifference | None],
    *,
    over_images: Mapping[Key, Estimate] | None = None,
    saturated: Mapping[Key, Verdict] | None = None,
    margin: float = MARGIN,
    larger_is_better: bool = True,
    caveats: Mapping[Key, Caveats] | None = None,
    sequential: SequentialPlan | None = None,
) -> dict[Key, Decision]:
    """The verdict on every arm of a study, tested together. The first case that applies, of:

    1. no verdict: fewer than 3 seeds have both the arm and the baseline (None: no seed has); or no look is reached.
    2. at the ceiling, at the floor, or open: `saturated` says so. It claims nothing.
    3. better, worse: the two-sided test has p ≤ ALPHA after Holm's correction over the arms that come this far; the sign
       of the mean says which. `within_margin` where 4 holds too.
    4. equivalent: both one-sided tests against ±margin have p ≤ ALPHA, that is, the (1 − 2 ALPHA) interval lies within
       ±margin. Not corrected for the number of arms.
    5. open: neither was shown, or there is nothing to test by.

    The tests are paired t-tests over seeds. Where seeds spread less than one test image, as where the difference is the
    same at every seed, they are t-tests over seeds and images: of `over_images`, which has these differences alone.

    Under a `sequential` plan each level is the nominal one of the arm's look, which keeps it over all looks together
    (`sequential.nominal_level`), Holm's correction begins with `num_arms`, and 4 has `equivalence_alpha`. The interval of a
    better, worse or open arm is then the one for all `num_arms`; where only Holm's correction for fewer shows the arm, it ends
    at 0 instead of holding it.

    A run that diverged is in no pair, and is worse than any. So 'better' and 'equivalent' become open where a run of the
    arm diverged (`caveats`), 'worse' and 'equivalent' where one of the baseline did.

    `margin` is in the unit of the differences. Whether they are of what is better or worse where it is larger,
    `larger_is_better` says; their signs stay as they are. Raises ValueError unless it is above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin:g} must be above 0, as a fraction: 0.005 is half a point")
    over_images, saturated, caveats = over_images or {}, saturated or {}, caveats or {}
    testable = {
        key: pairs
        for key, pairs in differences.items()
        if pairs is not None and pairs.n >= FEWEST_SEEDS and (sequential is None or key in sequential.reached)
    }
    estimates = {
        key: estimate
        for key, difference in testable.items()
        if key not in saturated and (estimate := over_images.get(key, difference.estimate)) is not None
    }
    tests = _Tests(estimates, sequential, larger_is_better)
    adjusted = {} if sequential else dict(zip(estimates, holm([e.p_value for e in estimates.values()]), strict=True))
    decisions = {}
    for key, difference in differences.items():
        look = sequential.reached.get(key) if sequential else None
        decision = Decision(Verdict.NONE, difference, margin, look=look, caveats=caveats.get(key, NO_CAVEATS))
        if key in estimates:
            decision = replace(decision, adjusted_p=adjusted.get(key), over_images=key in over_images)
            decision = tests.settle(key, decision)
        elif key in testable:
            decision = replace(decision, verdict=saturated.get(key, Verdict.OPEN))
        decisions[key] = decision
    return decisions


class _Tests(Generic[Key]):
    """Of the arms of a study together, each by the estimate of its difference."""

    def __init__(self, estimates: Mapping[Key, Estimate], plan: SequentialPlan | None, larger_is_better: bool) -> None:
        self.estimates, self.plan, self.larger_is_better = estimates, plan, larger_is_better
        self.num_arms = max(plan.num_arms if plan else 0, len(estimates))
        by_p_value = sorted(estimates, key=lambda key: estimates[key].p_value)
        self.corrections, self.shown = _holm_steps(by_p_value, self.num_arms, self._is_significant)

    def settle(self, key: Key, decision: Decision) -> Decision:
        """The decision with its verdict, and the interval that decided."""
        estimate, plan = self.estimates[key], self.plan
        alpha, two_one_sided = ALPHA / self.corrections[key], 2 * ALPHA
        if plan:
            alpha, two_one_sided = ALPHA / self.num_arms, plan.equivalence_alpha
        interval = estimate.interval(1 - self._level(key, alpha))
        within = estimate.equivalence_p_value(decision.margin) <= self._level(key, two_one_sided) / 2
        if key in self.shown:
            verdict = Verdict.BETTER if (estimate.mean > 0) == self.larger_is_better else Verdict.WORSE
            interval = interval.on_the_side_of(estimate.mean)
        elif within:
            verdict, alpha = Verdict.EQUIVALENT, two_one_sided
            interval = estimate.interval(1 - self._level(key, alpha))
            if plan:  # as wide as Hsu et al. (1994) make it, which covers with what one of the two tests has
                interval, alpha = interval.with_zero, alpha / 2
        else:
            verdict = Verdict.OPEN
        decision = replace(decision, corrected_for=self.corrections[key])
        if decision.caveats.diverged_may_turn(verdict):
            return replace(decision, verdict=Verdict.OPEN)
        within = within and not decision.caveats.diverged_may_turn(Verdict.EQUIVALENT)
        return replace(decision, verdict=verdict, interval=interval, confidence=1 - alpha, within_margin=within)

    def _is_significant(self, key: Key, num_arms: int) -> bool:
        return self.estimates[key].p_value <= self._level(key, ALPHA / num_arms)

    def _level(self, key: Key, alpha: float) -> float:
        """Of one test at the arm's look."""
        return nominal_level(self.plan.reached[key], looks=self.plan.looks, alpha=alpha) if self.plan else alpha


def _holm_steps(
    keys: Iterable[Key], num_arms: int, is_significant: Callable[[Key, int], bool]
) -> tuple[dict[Key, int], set[Key]]:
    """Holm's method (1979): (the number of arms that each is corrected for, those that are significant).

    One arm that is significant among all `num_arms` is shown; the others are then tested among one arm fewer, until none of
    them is significant. An arm's level depends on no other's p-value but through what is shown, so looks may differ.
    """
    corrections: dict[Key, int] = {}
    left = [*keys]
    while (found := next((key for key in left if is_significant(key, num_arms - len(corrections))), None)) is not None:
        corrections[found] = num_arms - len(corrections)
        left.remove(found)
    shown = {*corrections}
    return corrections | {key: num_arms - len(shown) for key in left}, shown


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
