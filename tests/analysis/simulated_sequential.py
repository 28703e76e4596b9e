"""Studies that add seeds until they are settled, with a known truth: how often do they come to what is not so?

The same checks run in tests/analysis/statistics/test_stopping.py at a reduced count, and in benchmarks/test_statistics.py in
full. They go through the functions that plans and tables are made from: `follow` and `decide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.sequential import LOOKS
from vitbench.analysis.statistics.stopping import Progress, Runs, follow
from vitbench.analysis.statistics.verdicts import MARGIN, SequentialPlan, Verdict, decide


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
        plan = SequentialPlan(design.looks, len(by_arm), reached)
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
    settled: float
    seeds: float
    """Of an arm, on average."""


def shares(num_studies: int, design: Design, *, seed: int = 0) -> Shares:
    random = np.random.RandomState(seed)
    alarms = equivalent = at_margin = covered = with_interval = settled = seeds = 0
    for _ in range(num_studies):
        progress, alarm = simulate(random, design), False
        for arm, effect in enumerate(design.effects):
            decision = progress.decisions[arm]
            verdict = decision.verdict
            alarm |= (verdict is Verdict.BETTER and effect <= 0) or (verdict is Verdict.WORSE and effect >= 0)
            at_margin += abs(effect) >= MARGIN
            equivalent += abs(effect) >= MARGIN and verdict is Verdict.EQUIVALENT
            settled += verdict.is_settled
            seeds += progress.reached[arm]
            if decision.interval is not None:
                with_interval += 1
                covered += decision.interval.low <= effect <= decision.interval.high
        alarms += alarm
    arms = num_studies * len(design.effects)
    return Shares(
        alarms / num_studies, equivalent / max(at_margin, 1), covered / with_interval, settled / arms, seeds / arms
    )


def equal_spreads(effects: Sequence[float], **options: object) -> Design:
    return replace(Design(effects, [0.0052] * (len(effects) + 1)), **options)
