"""What do a comparison's arms come to by other metrics, and do verdicts by loss and by top-1 agree?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import decisions_of
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.statistics.power import SeedsToSettle, seeds_to_settle
from vitbench.analysis.statistics.verdicts import Decision, Verdict
from vitbench.records.metrics import METRICS, TOP1, Metric

LOSS = METRICS["loss"]
NEAR = 0.05
"""Five points of top-1: an exchange rate is for differences within it; beyond, loss does not follow accuracy in proportion."""


def other_metrics(comparison: Comparison) -> list[Metric]:
    """Those that the arms are not judged by, but that a run has."""
    keys = {key for record in comparison.records for key in record.metrics}
    return [metric for metric in METRICS.values() if metric != comparison.metric and metric.key in keys]


def judged_by(comparison: Comparison, metric: Metric) -> Comparison:
    """The same arms, at the same settings, by another metric."""
    return replace(comparison, metric=metric)


@dataclass(frozen=True)
class ByBoth:
    """An arm by top-1 and by loss, at the same setting and seeds."""

    comparison: Comparison
    arm: str
    top1: Decision
    loss: Decision
    num_arms: int
    """Of the comparison, for which seeds are counted."""

    @property
    def together(self) -> Together:
        return Together.of(self.top1.verdict, self.loss.verdict)

    def seeds(self, metric: Metric) -> SeedsToSettle | None:
        """That a study of as many arms would need from the first, at the mean and spread seen; None without a spread."""
        decision = self.top1 if metric.is_top1 else self.loss
        if decision.difference is None or decision.over_images:
            return None
        return seeds_to_settle(decision.difference, num_arms=self.num_arms, margin=metric.margin, from_the_first=True)

    @property
    def strength_ratio(self) -> float | None:
        """|t| by loss over |t| by top-1; None where one of them has no spread, or no difference."""
        by_top1, by_loss = self.top1.difference, self.loss.difference
        if by_top1 is None or by_loss is None or not (by_top1.sd and by_loss.sd and by_top1.mean):
            return None
        return abs(by_loss.mean / by_loss.sd) / abs(by_top1.mean / by_top1.sd)


def by_both(comparisons: Iterable[Comparison]) -> list[ByBoth]:
    """Every arm that has three seeds or more by both metrics; the same runs against the same once, of the first study."""
    arms: dict[object, ByBoth] = {}
    for comparison in comparisons:
        top1, loss = (decisions_of(judged_by(comparison, metric)) for metric in (TOP1, LOSS))
        tested = sum(decision.corrected_for is not None for decision in top1.values())
        for label, decision in top1.items():
            if Verdict.NONE in (decision.verdict, loss[label].verdict) or decision.difference is None:
                continue
            environment = comparison.environment.comparison_key
            arm = next(arm for arm in comparison.arms if arm.label == label)
            runs = tuple(sorted(record.identity for record in arm.completed(arm.setting).values()))
            key = runs, environment, decision.difference.mean
            arms.setdefault(key, ByBoth(comparison, label, decision, loss[label], max(tested, 1)))
    return list(arms.values())


def nats_of_half_a_point(arms: Sequence[ByBoth]) -> float | None:
    """How far loss falls, in nats, where top-1 rises by half a point: −0.005 × the slope through 0, by least squares.

    Over the differences of arms from their baselines, seed by seed, that are within `NEAR`; None where there is none.
    """
    products = squares = 0.0
    for arm in arms:
        if (top1 := arm.top1.difference) is None or (loss := arm.loss.difference) is None:
            continue
        for seed, difference in top1.by_seed.items():
            if abs(difference) <= NEAR and seed in loss.by_seed:
                products += difference * loss.by_seed[seed]
                squares += difference**2
    return -TOP1.margin * products / squares if squares else None


def nats_by_dataset(arms: Sequence[ByBoth]) -> dict[str, float]:
    """`nats_of_half_a_point` of each data set."""
    ordered = sorted(arms, key=dataset_of)
    groups = {name: nats_of_half_a_point(list(group)) for name, group in groupby(ordered, key=dataset_of)}
    return {name: nats for name, nats in groups.items() if nats is not None}


def dataset_of(arm: ByBoth) -> str:
    return arm.comparison.data.dataset
