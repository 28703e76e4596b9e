"""Which arms of a study need more seeds, and how many, where seeds are added until arms are settled?

All open arms go from look to look together, so that what is run does not depend on where a study was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.sequential import nominal_level
from vitbench.analysis.statistics.verdicts import ALPHA, Decision, SequentialPlan

Key = TypeVar("Key", bound=Hashable)


class Runs(Enum):
    """What there is of an arm's runs up to a look."""

    COMPLETE = "complete"
    """All ended, whether or not they diverged."""
    FAILED = "failed"
    """Some failed: the other arms do not wait for them."""
    MISSING = "missing"


@dataclass(frozen=True)
class Progress(Generic[Key]):
    """Where each arm of a study stands."""

    reached: Mapping[Key, int]
    """The look that its verdict is of; arms before the first are not in it."""
    wanted: Mapping[Key, int]
    """How many seeds it is to have by now: of a settled arm those that it has, of an open one those of the next look."""
    decisions: Mapping[Key, Decision]
    """At the looks reached; empty before the first."""

    @property
    def is_over(self) -> bool:
        """Whether no arm wants more seeds than it has."""
        return self.reached == self.wanted


def expected_seeds(difference: PairedDifference, *, look: int, plan: SequentialPlan, margin: float) -> float:
    """How many seeds an open arm has in the end, on average, were its mean and spread those seen so far; the look that it has
    reached where they have no spread. Corrected for all arms of the plan. By simulation, the same at each call.
    """
    looks_ahead = [later for later in plan.looks if later > look]
    if not difference.sd or not looks_ahead:
        return float(look)
    import numpy as np
    from scipy.special import stdtrit

    paths = 1000
    draws = np.random.RandomState(0).normal(difference.mean, difference.sd, (paths, plan.looks[-1] - look))
    values = np.concatenate([np.tile([*difference.by_seed.values()], (paths, 1)), draws], axis=1)
    ends, is_open = np.full(paths, plan.looks[-1]), np.ones(paths, bool)
    for later in looks_ahead:
        so_far = values[:, : difference.n + later - look]
        number, mean = so_far.shape[1], so_far.mean(axis=1)
        error = so_far.std(axis=1, ddof=1) / math.sqrt(number)
        to_differ, to_equate = (
            stdtrit(number - 1, 1 - nominal_level(later, looks=plan.looks, alpha=alpha) / 2)
            for alpha in (ALPHA / plan.num_arms, plan.equivalence_alpha)
        )
        settles = (np.abs(mean) > to_differ * error) | (np.abs(mean) + to_equate * error < margin)
        ends[is_open & settles] = later
        is_open &= ~settles
    return float(ends.mean())


def follow(
    arms: Iterable[Key],
    looks: Sequence[int],
    *,
    runs: Callable[[Key, int], Runs],
    decide_at: Callable[[Mapping[Key, int]], Mapping[Key, Decision]],
) -> Progress[Key]:
    """From look to look, as far as there are runs.

    `runs`: what there is of an arm up to a look. `decide_at`: the verdicts of the arms of which each has reached such a look,
    from its seeds below that alone; so what was run beyond changes nothing.
    """
    active = [*arms]
    reached: dict[Key, int] = {}
    wanted: dict[Key, int] = dict.fromkeys(active, looks[0])
    decisions: Mapping[Key, Decision] = {}
    for look in looks:
        wanted |= dict.fromkeys(active, look)
        there = {arm: runs(arm, look) for arm in active}
        if Runs.MISSING in there.values():
            break
        active = [arm for arm in active if there[arm] is Runs.COMPLETE]
        if not active:
            break
        reached |= dict.fromkeys(active, look)
        decisions = decide_at(reached)
        active = [arm for arm in active if decisions[arm].verdict.asks_for_seeds]
        if not active:
            break
    return Progress(reached, wanted, decisions)
