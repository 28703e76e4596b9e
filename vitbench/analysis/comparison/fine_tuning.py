"""How much does fine-tuning gain? Weights that were trained further, against the same as they were, at one image size."""

from __future__ import annotations

from typing import NamedTuple

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.pairing import PairedDifference


class Gain(NamedTuple):
    """Of an arm over the untrained arm that it is held against, both at their own settings; None where no seed has both."""

    arm: ArmResult
    against: ArmResult
    difference: PairedDifference | None


def gains(comparison: Comparison) -> list[Gain]:
    """Of each arm that trained on from another's weights and has a counterpart that did not; without a verdict."""
    by_name = {arm.name: arm for arm in comparison.arms}
    gained = []
    for name, start_name in comparison.design.starts.items():
        arm, start = by_name.get(name), by_name.get(start_name)
        if arm is None or start is None or not arm.epochs:
            continue
        untrained = _untrained(comparison, arm, start)
        if untrained is not None:
            difference = PairedDifference.of(*arm.paired(untrained, setting=arm.setting))
            gained.append(Gain(arm, untrained, difference))
    return gained


def _untrained(comparison: Comparison, arm: ArmResult, start: ArmResult) -> ArmResult | None:
    """The arm of the start's weights as they are, at an arm's image size: the start itself where that is its own size."""
    if arm.model == start.model:
        return start
    starts = comparison.design.starts
    untrained = (other for other in comparison.arms if starts.get(other.name) == start.name and not other.epochs)
    return next((other for other in untrained if other.model == arm.model), None)
