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
    by_name, starts = {arm.name: arm for arm in comparison.arms}, comparison.design.starts
    gained = []
    for name, start_name in starts.items():
        arm, start = by_name.get(name), by_name.get(start_name)
        if arm is None or start is None or not arm.epochs:
            continue
        # The start's weights as they are, at the arm's image size: the start itself where that is its own size.
        as_they_are = (a for a in comparison.arms if starts.get(a.name) == start_name and not a.epochs)
        untrained = next((other for other in (start, *as_they_are) if other.model == arm.model), None)
        if untrained is not None:
            difference = PairedDifference.of(arm.top1_by_seed, untrained.top1_by_seed)
            gained.append(Gain(arm, untrained, difference))
    return gained
