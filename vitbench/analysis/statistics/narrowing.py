"""How much narrower do intervals get by pairing seeds?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, variance

from vitbench.analysis.statistics.pairing import NO_SPREAD, PairedDifference, t_quantile


@dataclass(frozen=True)
class Narrowing:
    """Half widths of the 95 % intervals of one difference from the same runs: paired by seed, and taken as unpaired."""

    paired: float
    unpaired: float
    """Welch's."""
    correlation: float
    """Between the accuracies of arm and baseline over seeds."""
    n: int

    @classmethod
    def of(cls, arm: Mapping[int, float], baseline: Mapping[int, float]) -> Narrowing | None:
        """From accuracies by seed; None for fewer than two common seeds, or where either does not vary over them."""
        difference = PairedDifference.of(arm, baseline)
        if difference is None or difference.n < 2:
            return None
        n = difference.n
        mine, theirs = (variance(values[seed] for seed in difference.by_seed) / n for values in (arm, baseline))
        if min(mine, theirs) < NO_SPREAD**2:
            return None
        degrees = (n - 1) * (mine + theirs) ** 2 / (mine**2 + theirs**2)
        interval = difference.interval()
        return cls(
            paired=0.0 if interval is None else interval.half_width,
            unpaired=t_quantile(0.975, degrees) * math.sqrt(mine + theirs),
            correlation=(mine + theirs - (difference.sd or 0.0) ** 2 / n) / (2 * math.sqrt(mine * theirs)),
            n=n,
        )


@dataclass(frozen=True)
class StudyNarrowing:
    """Over the arms of a study: root mean square half widths, so that one arm's lucky spread does not decide."""

    ratio: float
    correlation: float
    """Mean over arms."""
    num_arms: int
    num_seeds: tuple[int, int]
    """Fewest and most of an arm."""


def study_narrowing(arms: Mapping[str, Mapping[int, float]], *, baseline: str) -> StudyNarrowing | None:
    """From accuracies by arm and seed, of every arm against `baseline`; None where no pair has a spread.

    Raises ValueError where `baseline` is not among the arms.
    """
    if baseline not in arms:
        raise ValueError(f"baseline {baseline!r} is not among the arms; there are {', '.join(arms)}")
    narrowings = (Narrowing.of(values, arms[baseline]) for name, values in arms.items() if name != baseline)
    pairs = [pair for pair in narrowings if pair is not None]
    if not pairs:
        return None
    return StudyNarrowing(
        ratio=math.sqrt(fmean(pair.paired**2 for pair in pairs) / fmean(pair.unpaired**2 for pair in pairs)),
        correlation=fmean(pair.correlation for pair in pairs),
        num_arms=len(pairs),
        num_seeds=(min(pair.n for pair in pairs), max(pair.n for pair in pairs)),
    )
