"""What does a short ablation say of a longer one? The same arms on the same data, for fewer training FLOPs and for more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from vitbench.analysis.comparison.across import (
    ArmAcross,
    Place,
    agreements,
    distinct,
    in_the_order_of_recording,
    is_of_the_arm,
    judged_and_trained,
    same_arms,
)
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.naming import data_words
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.statistics.pairing import Interval, sign_of
from vitbench.analysis.statistics.proportion import exact_interval
from vitbench.analysis.statistics.rank_order import RankOrder
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.records.metrics import TOP1, Metric
from vitbench.studies.settings import without

TITLE = "What does a short ablation say of a longer one?"
PICTURE = "lasting"
"""Of the file, without its suffix, that `vitbench plots` writes."""


class SameSign(NamedTuple):
    """Of the differences from the baseline; those of 0 have none."""

    same: int
    opposite: int

    @property
    def total(self) -> int:
        return self.same + self.opposite

    @property
    def interval(self) -> Interval:
        """95 %, of the share that is the same, as if arms were independent."""
        return exact_interval(self.same, self.opposite)


@dataclass(frozen=True)
class LastingArm:
    """An arm in its two places."""

    across: ArmAcross
    short: Finding
    long: Finding

    @property
    def together(self) -> Together:
        return self.across.together

    @property
    def times_the_flops(self) -> float | None:
        """Training FLOPs of a long run of the arm, in those of a short one; None where its records do not tell."""
        short, long = self.short.arm.training_flops, self.long.arm.training_flops
        return long / short if short and long else None

    @property
    def differences(self) -> tuple[float, float]:
        """Short and long, in the unit of the metric's records."""
        return _mean(self.short), _mean(self.long)


@dataclass(frozen=True)
class Lasting:
    """What ablations in one place say of those in another that takes more training FLOPs, over all studies that have both."""

    short: Place
    long: Place
    metric: Metric
    environment: str
    """In words: where both were run."""
    arms: Sequence[LastingArm]
    """By study, in its order; the same runs may stand in several studies."""
    comparisons: Sequence[tuple[Comparison, Comparison]]
    """Of each study, the short and the long one."""
    saying_nothing: Mapping[tuple[str, str], Verdict]
    """(study, arm) that is at the ceiling or floor in one of the two places, which is no verdict on the arm."""

    @cached_property
    def distinct_arms(self) -> list[LastingArm]:
        """That count: the same runs against the same once."""
        counted = {id(arm) for arm in distinct(arm.across for arm in self.arms)}
        return [arm for arm in self.arms if id(arm.across) in counted]

    @property
    def together(self) -> Counter[Together]:
        return agreements([arm.across for arm in self.arms])

    @property
    def same_sign(self) -> SameSign:
        products = [sign_of(short) * sign_of(long) for short, long in (arm.differences for arm in self.distinct_arms)]
        return SameSign(products.count(1), products.count(-1))

    @cached_property
    def order(self) -> RankOrder | None:
        """Of the arms by their differences; None for fewer than three. A lucky baseline moves all of its arms alike, and so
        changes no order among them.
        """
        short, long = zip(*(arm.differences for arm in self.distinct_arms), strict=True)
        return RankOrder.of(short, long)

    @property
    def has_picture(self) -> bool:
        """Whether there are two points or more to see."""
        return len(self.distinct_arms) > 1

    @property
    def times_the_flops(self) -> tuple[float, float] | None:
        """The fewest and the most over the arms; None where records do not tell."""
        times = [times for arm in self.arms if (times := arm.times_the_flops) is not None]
        return (min(times), max(times)) if times else None


def lasting_of(assessments: Iterable[Assessment]) -> list[Lasting]:
    """Of every two places on one data set at which studies have arms in common, the one that took fewer training FLOPs held
    against the one that took most of all that have the arm; by data set, then by the shorter.

    Pairs are equal in study and baseline, metric, harness, environment, recipe and data, but for what size, epochs and
    number of images bring. Budgets, grids, operators, and how many seeds there are and tune, may differ. Where a place was
    measured twice, the last recorded counts; one without training FLOPs cannot be placed, and is left out.
    """
    return joined(of_each_study(assessments))


def titles_of(lastings: Sequence[Lasting]) -> list[str]:
    """`CIFAR-10: Micro/4, 4 epochs, 20,000 images → Mini/4, 20 epochs, 45,000 images`, no two alike."""
    plain = [f"{data_words(each.short.dataset)}: {each.short.text} → {each.long.text}" for each in lastings]
    by_metric = [
        title if each.metric == TOP1 else f"{title}, by {each.metric.words}"
        for title, each in zip(plain, lastings, strict=True)
    ]
    counts = Counter(by_metric)
    titles = [
        title if counts[title] == 1 else f"{title} ({each.environment})"
        for title, each in zip(by_metric, lastings, strict=True)
    ]
    seen: Counter[str] = Counter()
    for index, title in enumerate(titles):
        seen[title] += 1
        titles[index] = title if seen[title] == 1 else f"{title}, {seen[title]}"
    return titles


def with_others_to_hold_against(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Those that another one may be the shorter or longer of: only these need be assessed."""
    groups: dict[tuple[Hashable, ...], list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        groups[_circumstances(comparison)].append(comparison)
    return [each for group in groups.values() if len({*map(Place.of, group)}) > 1 for each in group]


def of_each_study(assessments: Iterable[Assessment]) -> list[Lasting]:
    """`lasting_of`, each study by itself."""
    by_circumstances: dict[tuple[Hashable, ...], dict[Place, Assessment]] = defaultdict(dict)
    for assessment in in_the_order_of_recording(assessments):
        if _flops(assessment):
            by_circumstances[_circumstances(assessment.comparison)][Place.of(assessment.comparison)] = assessment
    return [
        part
        for by_place in by_circumstances.values()
        for part in _of_a_study(dict(sorted(by_place.items(), key=lambda item: (_flops(item[1]), item[0]))))
    ]


def joined(parts: Iterable[Lasting]) -> list[Lasting]:
    """What several studies say of the same two places, together."""
    groups: dict[tuple[Hashable, ...], list[Lasting]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: part.comparisons[0][0].study):
        comparison = part.comparisons[0][0]
        where = comparison.harness_version, *_environment_key(comparison)
        groups[part.short, part.long, part.metric.name, *where].append(part)
    together = [
        replace(
            group[0],
            arms=[arm for part in group for arm in part.arms],
            comparisons=[pair for part in group for pair in part.comparisons],
            saying_nothing={name: verdict for part in group for name, verdict in part.saying_nothing.items()},
        )
        for group in groups.values()
    ]
    return sorted(together, key=lambda each: (each.short, each.long, each.metric.name, each.environment))


def _of_a_study(by_place: Mapping[Place, Assessment]) -> list[Lasting]:
    """Of one study; places in ascending order of training FLOPs."""
    pairs: dict[tuple[Place, Place], list[LastingArm]] = defaultdict(list)
    for arm in same_arms(by_place):
        *shorter, longest = arm.findings
        for place in shorter:
            if _flops(by_place[place]) < _flops(by_place[longest]):
                both = replace(arm, findings={each: arm.findings[each] for each in (place, longest)})
                pairs[place, longest].append(LastingArm(both, arm.findings[place], arm.findings[longest]))
    return [
        Lasting(
            short,
            long,
            by_place[short].comparison.metric,
            _environment_text(by_place[short].comparison),
            arms,
            [(by_place[short].comparison, by_place[long].comparison)],
            _saying_nothing(by_place[short], by_place[long]),
        )
        for (short, long), arms in pairs.items()
    ]


def _saying_nothing(*assessments: Assessment) -> dict[tuple[str, str], Verdict]:
    return {
        (assessment.comparison.study, label): finding.decision.verdict
        for assessment in assessments
        for label, finding in assessment.findings.arms.items()
        if finding.decision.verdict is not Verdict.NONE and not is_of_the_arm(finding.decision.verdict)
    }


def _circumstances(comparison: Comparison) -> tuple[Hashable, ...]:
    """Of every comparison of which one may be the longer of another."""
    baseline, data = comparison.baseline, without(comparison.data, ("train_images", *comparison.design.tuned))
    return (
        comparison.study,
        baseline and baseline.label,
        data,
        *_environment_key(comparison),
        *judged_and_trained(comparison),
    )


def _environment_key(comparison: Comparison) -> tuple[str, ...]:
    """But for whose operators computed: which a model has depends on its size, and each difference is of one kind alone."""
    return comparison.environment.model_copy(update={"kernels": ""}).comparison_key


def _environment_text(comparison: Comparison) -> str:
    environment = comparison.environment
    run_by = f"torch {environment.torch}, harness version {comparison.harness_version}"
    return f"{environment.device}, {comparison.precision_text}, {comparison.compiled_text}, {run_by}"


def _flops(assessment: Assessment) -> int:
    """Of a run of the baseline; 0 where its records do not tell."""
    baseline = assessment.comparison.baseline
    return (baseline.training_flops if baseline is not None else None) or 0


def _mean(finding: Finding) -> float:
    """A verdict that is of the arm has a difference."""
    assert finding.decision.difference is not None
    return finding.decision.difference.mean
