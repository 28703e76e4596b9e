"""What is training on worth: weights that went on against the same as they were, at one image size?"""

from __future__ import annotations

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.pairing import PairedDifference, bounds, points
from vitbench.analysis.tables.verdicts import Table
from vitbench.analysis.writing.words import ABSENT

GAINED = "gained (points, 95 % for each arm by itself)"


def going_on(comparison: Comparison) -> Table:
    """A row for each arm that went on from another, paired by seed, both at their own settings; without a verdict."""
    by_name = {arm.name: arm for arm in comparison.arms}
    rows = []
    for name, start in comparison.starts.items():
        arm, first = by_name.get(name), by_name.get(start)
        if arm is None or first is None or not arm.epochs:
            continue
        as_it_is = _as_it_is(comparison, arm, first)
        if as_it_is is not None:
            difference = PairedDifference.of(*_paired_at_own(arm, as_it_is))
            rows.append({"arm": arm.label, "against": as_it_is.label, GAINED: _text(difference)})
    return rows


def _text(difference: PairedDifference | None) -> str:
    """`+0.56 [−0.31, +1.43]`; `(n=1)` in place of an interval that there is none of."""
    if difference is None:
        return ABSENT
    interval = difference.interval()
    return f"{points(difference.mean)} {bounds(interval) if interval else f'(n={difference.n})'}"


def _as_it_is(comparison: Comparison, arm: ArmResult, first: ArmResult) -> ArmResult | None:
    """The model that an arm goes on as, untrained at that size: where the size is the start's own, the start."""
    if arm.model == first.model:
        return first
    starts = comparison.starts
    same = (one for one in comparison.arms if starts.get(one.name) == first.name and not one.epochs)
    return next((one for one in same if one.model == arm.model), None)


def _paired_at_own(arm: ArmResult, other: ArmResult) -> tuple[dict[int, float], dict[int, float]]:
    mine, theirs = arm.metric("test_top1", arm.setting), other.metric("test_top1", other.setting)
    seeds = sorted(mine.keys() & theirs.keys())
    return {seed: mine[seed] for seed in seeds}, {seed: theirs[seed] for seed in seeds}
