"""Studies that add seeds until they are settled, with a known truth: how often do they come to what is not so?

The same checks run in tests/analysis/statistics/test_stopping.py at a reduced count, and in benchmarks/test_statistics.py in
full. They go through the functions that plans and tables are made from: `follow` and `decide`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.stopping import Progress, Runs, follow
from vitbench.analysis.statistics.verdicts import MARGIN, SequentialPlan, Verdict, decide
from vitbench.studies.looks import LOOKS


@dataclass(frozen=True)
class Design:
    """Arms that truly differ from the baseline by `effects`; their runs spread by `sds`, the baseline's by the first."""

    effects: Sequence[float]
    sds: Sequence[float]
    looks: tuple[int, ...] = LOOKS
    num_rates: int = 1
    """Learning rates that are all worth the same, of which each arm takes the best on the validation of two seeds."""
    correlation: float = 0.9
    """Between a run's luck in validation and in test."""
    sittings: tuple[int, ...] = ()
    """Seeds at which somebody stops whatever is not settled; empty: at the last look."""
    by_fixed_rule: bool = False
    """Whether each look has the verdict of a fixed number of seeds, as if there were no other look."""


def accuracies(random: np.random.RandomState, sd: float, design: Design) -> np.ndarray:
    """One arm's luck by seed, at its chosen rate: [last look]."""
    luck = random.normal(0, sd, (design.looks[-1], design.num_rates))
    if design.num_rates == 1:
        return luck[:, 0]
    rest = (1 - design.correlation**2) ** 0.5
    validation = design.correlation * luck[:2] + random.normal(0, sd * rest, (2, design.num_rates))
    return luck[:, validation.mean(0).argmax()]


def simulate(random: np.random.RandomState, design: Design, *, margin: float = MARGIN) -> Progress[int]:
    """One study, followed until all of its arms are settled, its last look is over, or it was stopped."""
    last = design.looks[-1] if not design.sittings else int(random.choice(design.sittings))
    baseline = accuracies(random, design.sds[0], design)
    by_arm = [
        effect + accuracies(random, sd, design) - baseline
        for effect, sd in zip(design.effects, design.sds[1:], strict=True)
    ]

    def decide_at(reached):
        plan = None if design.by_fixed_rule else SequentialPlan(design.looks, len(by_arm), reached)
        pairs = {arm: PairedDifference(dict(enumerate(by_arm[arm][:look].tolist()))) for arm, look in reached.items()}
        return decide(pairs, margin=margin, sequential=plan)

    return follow(
        range(len(by_arm)),
        design.looks,
        runs=lambda _, look: Runs.COMPLETE if look <= last else Runs.MISSING,
        decide_at=decide_at,
    )


@dataclass(frozen=True)
class Shares:
    """Of so many studies, or of all of their arms."""

    false_difference: float
    """Studies that call any arm better or worse that is equal to the baseline, or is so in the other direction."""
    false_equivalent: float
    """Arms called equivalent, of those that differ by the margin or more; 0 where there are none."""
    covered: float
    """Arms whose printed interval holds the true difference, of those that have one."""
    last_covered: float
    """As `covered`, of the last arm alone."""
    verdicts: Mapping[Verdict, float]
    seeds: float
    """Of an arm, on average."""

    @property
    def settled(self) -> float:
        return sum(share for verdict, share in self.verdicts.items() if verdict.is_settled)


def shares(num_studies: int, design: Design, *, seed: int = 0) -> Shares:
    random, num_arms = np.random.RandomState(seed), len(design.effects)
    alarms = equivalent = at_margin = seeds = 0
    verdicts: Counter[Verdict] = Counter()
    covered, with_interval = np.zeros(num_arms), np.zeros(num_arms)
    for _ in range(num_studies):
        progress, alarm = simulate(random, design), False
        for arm, effect in enumerate(design.effects):
            decision = progress.decisions[arm]
            verdict = decision.verdict
            alarm |= (verdict is Verdict.BETTER and effect <= 0) or (verdict is Verdict.WORSE and effect >= 0)
            at_margin += abs(effect) >= MARGIN
            equivalent += abs(effect) >= MARGIN and verdict is Verdict.EQUIVALENT
            verdicts[verdict] += 1
            seeds += progress.reached[arm]
            if decision.interval is not None:
                with_interval[arm] += 1
                covered[arm] += decision.interval.low <= effect <= decision.interval.high
        alarms += alarm
    arms = num_studies * num_arms
    return Shares(
        false_difference=alarms / num_studies,
        false_equivalent=equivalent / max(at_margin, 1),
        covered=float(covered.sum() / with_interval.sum()),
        last_covered=float(covered[-1] / with_interval[-1]),
        verdicts={verdict: count / arms for verdict, count in verdicts.items()},
        seeds=seeds / arms,
    )


SD = 0.0052
"""Of a run's accuracy between seeds: that of the difference of two is then 0.74 points."""


def equal_spreads(effects: Sequence[float], **options: object) -> Design:
    return replace(Design(effects, [SD] * (len(effects) + 1)), **options)


JUST_WITHIN = 0.98 * MARGIN
WORLDS = {
    "one arm": equal_spreads([0.0]),
    "two arms": equal_spreads([0.0] * 2),
    "four arms": equal_spreads([0.0] * 4),
    "eight arms": equal_spreads([0.0] * 8),
    "twelve arms": equal_spreads([0.0] * 12),
    "some better, some worse": equal_spreads([0.02, 0.01, -0.01, MARGIN, 0.0, 0.0]),
    "one arm at the margin": equal_spreads([MARGIN]),
    "four arms at the margin": equal_spreads([MARGIN] * 4),
    "one arm just within": equal_spreads([JUST_WITHIN]),
    "unequal spreads": Design([0.0, 0.0, MARGIN, MARGIN], [0.005, 0.002, 0.02, 0.002, 0.02]),
    "settings chosen on two seeds": equal_spreads([0.0, 0.0, MARGIN], num_rates=4),
    "stopped at a whim": equal_spreads([0.0, 0.0, MARGIN], sittings=(5, 8, 12, 18, 27)),
}
"""Of which the verdicts and the intervals keep their errors."""
