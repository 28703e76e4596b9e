"""How much accuracy does each arm lose on distorted test images, and does it lose less than what it is compared with?

An arm's change is its accuracy on distorted images minus that on plain ones, at each seed. Arms are compared by the difference
of their changes, paired by seed. The arms are tested together for each distortion, at its strongest strength alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import UNKNOWN_IMAGE, saturation
from vitbench.analysis.statistics.pairing import Estimate, PairedDifference, Uncertainty
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.statistics.verdicts import Caveats, Decision, SequentialPlan, decide
from vitbench.config import DISTORTIONS, distorted_metric


@dataclass(frozen=True)
class DistortedArm:
    """An arm on one kind of distorted test images, at its chosen setting. Accuracies are shares, by seed, ascending."""

    arm: ArmResult
    plain: Mapping[int, float]
    by_strength: Mapping[float, Mapping[int, float]]
    """Strengths ascend; only those at which a seed was evaluated."""

    @classmethod
    def of(cls, arm: ArmResult, name: str) -> DistortedArm | None:
        """None where no run at its chosen setting was evaluated on that distortion."""
        metrics = {seed: record.metrics for seed, record in arm.completed(arm.setting).items()}
        by_strength = {
            strength: {seed: of_run[metric] for seed, of_run in metrics.items() if metric in of_run}
            for strength in DISTORTIONS[name].strengths
            if (metric := distorted_metric(name, strength))
        }
        by_strength = {strength: values for strength, values in by_strength.items() if values}
        return cls(arm, arm.top1_by_seed, by_strength) if by_strength else None

    def change(self, strength: float) -> PairedDifference | None:
        """Accuracy at a strength minus that on plain images; None where no seed was evaluated there."""
        return PairedDifference.of(self.by_strength.get(strength, {}), self.plain)

    def accuracy(self, strength: float) -> Summary | None:
        return Summary.of(self.by_strength.get(strength, {}).values())


@dataclass(frozen=True)
class Robustness:
    """What one distortion does to the arms of a comparison, by arm label."""

    name: str
    arms: Mapping[str, DistortedArm]
    strengths: tuple[float, ...]
    """At which any arm was evaluated, ascending."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """On each arm but the baseline, at the strongest strength: better is an arm that loses less."""

    @property
    def strongest(self) -> float:
        return self.strengths[-1]


def robustness_of(comparison: Comparison) -> tuple[Robustness, ...]:
    """Of each distortion on which some arm was evaluated, in the order of `DISTORTIONS`."""
    results = []
    for name in DISTORTIONS:
        arms = {arm.label: found for arm in comparison.arms if (found := DistortedArm.of(arm, name))}
        if arms:
            strengths = tuple(sorted({strength for arm in arms.values() for strength in arm.by_strength}))
            results.append(Robustness(name, arms, strengths, _decide(comparison, arms, strengths[-1])))
    return tuple(results)


def _decide(comparison: Comparison, arms: Mapping[str, DistortedArm], strength: float) -> dict[str, Decision]:
    """`decide` on the differences of changes. Records do not say which distorted images were right, so that differences which
    are the same at every seed are held against an image that counts for too much.
    """
    differences, over_images, saturated, caveats = {}, {}, {}, {}
    floor = comparison.without_learning
    for label, mine in arms.items():
        reference = comparison.compared_with(mine.arm)
        if reference is None:
            continue
        theirs = arms.get(reference.label)
        difference = None if theirs is None else _difference_of_changes(mine, theirs, strength)
        differences[label] = difference
        caveats[label] = Caveats(mine.arm.diverged(mine.arm.setting), reference.diverged(reference.setting))
        if theirs is None or difference is None:
            continue
        accuracies = [arm.by_strength[strength][seed] for arm in (mine, theirs) for seed in difference.by_seed]
        if verdict := saturation(accuracies, None, floor and floor[0]):
            saturated[label] = verdict
        elif difference.sd == 0:
            error = UNKNOWN_IMAGE / math.sqrt(difference.n)
            over_images[label] = Estimate(difference.mean, (Uncertainty(error, difference.n - 1),))
    num_arms = max(len(differences), len(comparison.design.compared_arms))
    looks = comparison.design.looks
    return decide(
        differences,
        over_images=over_images,
        saturated=saturated,
        caveats=caveats,
        sequential=SequentialPlan(looks, num_arms, comparison.reached) if looks else None,
    )


def _difference_of_changes(mine: DistortedArm, theirs: DistortedArm, strength: float) -> PairedDifference | None:
    my_change, their_change = mine.change(strength), theirs.change(strength)
    if my_change is None or their_change is None:
        return None
    return PairedDifference.of(my_change.by_seed, their_change.by_seed)
