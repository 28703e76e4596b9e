"""How much narrower do intervals get by pairing seeds?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, variance

from vitbench.analysis.statistics.pairing import NO_SPREAD, PairedDifference, t_quantile


@dataclass(frozen=True)
class StudyNarrowing:
    """95 % intervals paired by seed against those of the same runs taken as unpaired (Welch), over the arms of a study."""

    ratio: float
    """Of root mean square half widths, so that one arm's lucky spread does not decide; below 1 where pairing narrows."""
    correlation: float
    """Between the accuracies of arm and baseline over seeds; mean over arms."""
    num_arms: int
    num_seeds: tuple[int, int]
    """Fewest and most of an arm."""


def study_narrowing(arms: Mapping[str, Mapping[int, float]], *, baseline: str) -> StudyNarrowing | None:
    """From accuracies by arm and seed, of every arm against `baseline`; None where no pair has a spread.

    Raises ValueError where `baseline` is not among the arms.
    """
    if baseline not in arms:
        raise ValueError(f"baseline {baseline!r} is not among the arms; there are {', '.join(arms)}")
    paired, unpaired, correlations, num_seeds = [], [], [], []
    for name, arm in arms.items():
        difference = PairedDifference.of(arm, arms[baseline])
        if name == baseline or difference is None or difference.n < 2:
            continue
        n, interval = difference.n, difference.interval()
        squares = [variance(values[seed] for seed in difference.by_seed) / n for values in (arm, arms[baseline])]
        if min(squares) < NO_SPREAD**2:
            continue
        total = sum(squares)
        degrees = (n - 1) * total**2 / sum(square**2 for square in squares)  # Welch's
        paired.append(interval.half_width if interval else 0.0)
        unpaired.append(t_quantile(0.975, degrees) * math.sqrt(total))
        correlations.append((total - (difference.sd or 0.0) ** 2 / n) / (2 * math.sqrt(math.prod(squares))))
        num_seeds.append(n)
    if not paired:
        return None
    return StudyNarrowing(
        ratio=math.sqrt(fmean(half**2 for half in paired) / fmean(half**2 for half in unpaired)),
        correlation=fmean(correlations),
        num_arms=len(paired),
        num_seeds=(min(num_seeds), max(num_seeds)),
    )
