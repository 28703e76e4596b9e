"""Is an arm better than the baseline, worse, equivalent within a margin, or can nobody tell yet? By a written rule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from vitbench.analysis.pairing import PairedDifference

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
    INCONCLUSIVE = "inconclusive"
    NONE = "no verdict"


@dataclass(frozen=True)
class Caveats:
    """What the runs that a difference is made of leave out."""

    diverged: int = 0
    """Runs of the arm that diverged at the setting it is reported at, and are in no pair."""
    baseline_diverged: int = 0
    at_edge: bool = False
    """Whether the arm's setting is the last of the grid, so that a better one may lie beyond."""
    baseline_at_edge: bool = False

    @property
    def words(self) -> str:
        """`2 runs diverged`, `at the edge of the grid`; empty where there is none."""
        return "; ".join((*self.words_of_diverged, *self.words_of_edges))

    @property
    def words_of_diverged(self) -> tuple[str, ...]:
        runs = "1 run" if self.diverged == 1 else f"{self.diverged} runs"
        theirs = "1 run" if self.baseline_diverged == 1 else f"{self.baseline_diverged} runs"
        mine = (f"{runs} diverged",) if self.diverged else ()
        return (*mine, f"{theirs} of the baseline diverged") if self.baseline_diverged else mine

    @property
    def words_of_edges(self) -> tuple[str, ...]:
        mine = ("at the edge of the grid",) if self.at_edge else ()
        return (*mine, "the baseline at the edge of the grid") if self.baseline_at_edge else mine

    def allow(self, verdict: Verdict) -> bool:
        """Whether runs that diverged, each worse than any pair, leave the verdict standing."""
        against = {
            Verdict.BETTER: self.diverged,
            Verdict.WORSE: self.baseline_diverged,
            Verdict.EQUIVALENT: self.diverged + self.baseline_diverged,
        }
        return not against.get(verdict)

    def may_turn(self, verdict: Verdict) -> bool:
        """Whether a better setting beyond the grid could make it another."""
        raised = {Verdict.WORSE: self.at_edge, Verdict.BETTER: self.baseline_at_edge}
        return raised.get(verdict, self.at_edge or self.baseline_at_edge)


NO_CAVEATS = Caveats()


@dataclass(frozen=True)
class Decision:
    """What one arm of a study comes to."""

    verdict: Verdict
    difference: PairedDifference | None
    margin: float
    adjusted_p: float | None = None
    """After Holm's correction over the arms tested together; None where nothing was tested."""
    within_margin: bool = False
    """Whether equivalence was shown, be the difference significant or not."""
    caveats: Caveats = NO_CAVEATS

    @property
    def words(self) -> str:
        """`better`, `worse, within 0.5 points`, `inconclusive, 2 runs diverged`: the verdict as a table's cell."""
        parts = [str(self.verdict)]
        if self.within_margin and self.verdict is not Verdict.EQUIVALENT:
            parts.append(f"within {points_of(self.margin)} points")
        return ", ".join((*parts, *self.caveats.words_of_diverged))


def decide(
    differences: Mapping[Key, PairedDifference | None],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    caveats: Mapping[Key, Caveats] | None = None,
) -> dict[Key, Decision]:
    """The verdict on every arm of a study, tested together. The first case that applies, of:

    1. no verdict: fewer than 3 seeds have both the arm and the baseline (None: no seed has).
    2. inconclusive: the difference is the same at every seed, so that there is no spread to test by.
    3. better, worse: the paired t-test over seeds has p ≤ alpha after Holm's correction over the arms that come this
       far; the sign of the mean says which. `within_margin` where 4 holds too.
    4. equivalent: both one-sided t-tests against ±margin have p ≤ alpha, that is, the (1 − 2 alpha) t-interval lies
       within ±margin. Not corrected for the number of arms.
    5. inconclusive: neither was shown.

    A run that diverged is in no pair, and is worse than any. So 'better' and 'equivalent' become inconclusive where a
    run of the arm diverged (`caveats`), 'worse' and 'equivalent' where one of the baseline did.

    `margin` is a fraction. Raises ValueError unless it is above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin:g} must be above 0, as a fraction: 0.005 is half a point")
    p_values = {
        key: one.p_value
        for key, one in differences.items()
        if one is not None and one.n >= FEWEST_SEEDS and one.p_value is not None
    }
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    against = caveats or {}
    return {
        key: _decision(one, adjusted.get(key), margin, alpha, against.get(key, NO_CAVEATS))
        for key, one in differences.items()
    }


def _decision(
    difference: PairedDifference | None, adjusted_p: float | None, margin: float, alpha: float, caveats: Caveats
) -> Decision:
    if difference is None or difference.n < FEWEST_SEEDS:
        return Decision(Verdict.NONE, difference, margin, caveats=caveats)
    equivalence_p = difference.equivalence_p_value(margin)
    if adjusted_p is None or equivalence_p is None:
        return Decision(Verdict.INCONCLUSIVE, difference, margin, caveats=caveats)
    within = equivalence_p <= alpha and caveats.allow(Verdict.EQUIVALENT)
    if adjusted_p <= alpha:
        verdict = Verdict.BETTER if difference.mean > 0 else Verdict.WORSE
    else:
        verdict = Verdict.EQUIVALENT if within else Verdict.INCONCLUSIVE
    verdict = verdict if caveats.allow(verdict) else Verdict.INCONCLUSIVE
    return Decision(verdict, difference, margin, adjusted_p, within, caveats)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method (1979), in the order given.

    The smallest of m is multiplied by m, the next by m − 1, …; none is below one that was smaller, none above 1. The
    chance of any false 'better' or 'worse' in a study is then at most alpha, however arms depend on each other.

    Equal to statsmodels' `multipletests(method="holm")`, which takes a second to import and collects garbage at each
    call.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def rule(num_arms: int, *, margin: float = MARGIN, alpha: float = ALPHA) -> list[str]:
    """The rule of `decide` as sentences to be printed under a table; `num_arms` were corrected for."""
    arms = {0: "the arms tested, here none", 1: "1 arm"}.get(num_arms, f"{num_arms} arms")
    within = f"±{points_of(margin)} points"
    return [
        f"No verdict: fewer than {FEWEST_SEEDS} seeds have both the arm and the baseline.",
        f"Better, worse: the paired t-test over seeds has p ≤ {alpha:g} after Holm's correction over {arms}.",
        f"Equivalent: not so, and two one-sided t-tests at {alpha:g} each show the difference to lie within {within}, "
        "whatever the number of arms. 'Within' after better or worse: shown as well.",
        "Inconclusive: all else; a difference that is the same at every seed, and what would be better or equivalent but "
        "for a run of the arm that diverged (or worse or equivalent, but for one of the baseline).",
        "Intervals are 95 % for each arm by itself, not corrected: one may leave out 0 where the verdict is "
        "inconclusive.",
    ]


def points_of(margin: float) -> str:
    """0.5 from 0.005."""
    return f"{100 * margin:g}"
