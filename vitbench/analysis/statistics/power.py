"""Which difference can so many seeds detect, and how many seeds would settle an open pair?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vitbench.analysis.statistics.pairing import PairedDifference, t_quantile
from vitbench.analysis.statistics.verdicts import ALPHA, FEWEST_SEEDS, MARGIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER = 0.8
MOST_SEEDS = 100
"""Beyond that, tables say 'more than 100'."""


def power_of_difference(
    difference: float, sd: float, num_seeds: NDArray[np.int64], *, alpha: float = ALPHA
) -> NDArray[np.float64]:
    """Chance that a paired t-test over so many seeds, each two or more, finds a true mean difference, two-sided.

    sd: of paired differences between seeds, above 0.
    """
    import numpy as np
    from scipy.special import stdtrit

    degrees, noncentrality = num_seeds - 1, abs(difference) / sd * np.sqrt(num_seeds)
    critical = stdtrit(degrees, 1 - alpha / 2)
    return 1 - _noncentral_t(critical, degrees, noncentrality) + _noncentral_t(-critical, degrees, noncentrality)


def power_of_equivalence(
    difference: float, sd: float, num_seeds: NDArray[np.int64], *, margin: float = MARGIN
) -> NDArray[np.float64]:
    """Chance that two one-sided t-tests over so many seeds place a true mean difference within ±margin.

    From noncentral t, as 1 minus the chances that either test fails: never above the exact value, close to it where
    that is above one half.
    """
    import numpy as np
    from scipy.special import stdtrit

    degrees, error = num_seeds - 1, sd / np.sqrt(num_seeds)
    critical = stdtrit(degrees, 1 - ALPHA)
    not_below_upper = _noncentral_t(critical, degrees, (margin - difference) / error)
    not_above_lower = _noncentral_t(critical, degrees, (margin + difference) / error)
    return np.maximum(0.0, 1 - not_below_upper - not_above_lower)


def smallest_difference(sd: float | None, num_seeds: int, *, alpha: float = ALPHA) -> float | None:
    """The smallest true difference that so many paired seeds find with 80 % power; None for fewer than two.

    sd: of paired differences between seeds; the result is in its unit, and None where it is None or 0. One arm by
    itself; with Holm's correction over m arms, `alpha=ALPHA / m` is what the first of them must pass.
    """
    if num_seeds < 2 or not sd:
        return None
    from scipy.special import nctdtrinc

    critical = t_quantile(1 - alpha / 2, num_seeds - 1)
    # The other tail, a difference of the wrong sign, has no share in a power of 80 %.
    return sd * float(nctdtrinc(num_seeds - 1, 1 - POWER, critical)) / math.sqrt(num_seeds)


@dataclass(frozen=True)
class SeedsToSettle:
    """How many paired seeds in all would settle a pair, were its mean and spread those seen so far."""

    num_seeds: int | None
    """None: more than `MOST_SEEDS`."""
    shows: Literal["a difference", "equivalence"]


def seeds_to_settle(
    difference: PairedDifference, *, num_arms: int, margin: float = MARGIN, from_the_first: bool = False
) -> SeedsToSettle | None:
    """Seeds that would find the difference seen so far significant, or show it equivalent, whichever takes fewer.

    With 80 % power, and more than there are now, unless they are counted `from_the_first`, as for a study yet to come.
    Holm's correction is taken at its hardest, as Bonferroni's: ALPHA / num_arms, which the smallest p of a study must pass;
    equivalence is not corrected, as in the verdict's rule. None where the spread is unknown: one pair, or equal differences.
    """
    if not difference.sd:
        return None
    import numpy as np

    candidates = np.arange(FEWEST_SEEDS if from_the_first else max(FEWEST_SEEDS, difference.n + 1), MOST_SEEDS + 1)
    power_to_differ = power_of_difference(difference.mean, difference.sd, candidates, alpha=ALPHA / num_arms)
    power_to_equate = power_of_equivalence(difference.mean, difference.sd, candidates, margin=margin)
    to_differ, to_equate = _first(power_to_differ >= POWER), _first(power_to_equate >= POWER)
    index = min(to_differ, to_equate)
    return SeedsToSettle(
        num_seeds=None if math.isinf(index) else int(candidates[int(index)]),
        shows="equivalence" if to_equate < to_differ else "a difference",
    )


def _noncentral_t(
    t: NDArray[np.float64], degrees: NDArray[np.int64], noncentrality: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Its distribution function: what statsmodels' TTestPower calls too, which takes a second to import."""
    import numpy as np
    from scipy.special import nctdtr

    # nan stands for some probabilities below 1e-16.
    below: NDArray[np.float64] = np.nan_to_num(nctdtr(degrees, noncentrality, t), nan=0.0)
    return below


def _first(reached: NDArray[np.bool_]) -> float:
    """Index of the first True, infinity where there is none."""
    return float(reached.argmax()) if reached.any() else math.inf
