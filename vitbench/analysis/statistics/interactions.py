"""Does the effect of one factor depend on the level of another? Position embedding × pooling, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from vitbench.analysis.statistics.pairing import PairedDifference

Cell = tuple[str, str]
"""Levels of the first and the second factor."""


def interactions(cells: Mapping[Cell, Mapping[int, float]], *, baseline: Cell) -> dict[Cell, PairedDifference]:
    """(a b − a b₀) − (a₀ b − a₀ b₀) for every pair of other levels a, b, at each seed that all four cells have.

    `cells`: accuracies by seed; `baseline`: a₀, b₀. Above 0 where a and b together are worth more than the sum of what
    each is worth alone. A pair with a cell or every common seed missing is left out. What comes back are
    differences like any other: `decide` gives their verdicts, Holm-corrected over all pairs.

    Raises ValueError where the baseline's cell is not there.
    """
    if baseline not in cells:
        raise ValueError(f"baseline {baseline} has no cell; there are {', '.join(map(str, sorted(cells)))}")
    first, second = baseline
    differences = {}
    for a, b in cells:
        corners = [(a, b), (a, second), (first, b), baseline]
        if a == first or b == second or any(corner not in cells for corner in corners):
            continue
        both, only_a, only_b, neither = (cells[corner] for corner in corners)
        if seeds := sorted(both.keys() & only_a.keys() & only_b.keys() & neither.keys()):
            differences[a, b] = PairedDifference(
                {seed: (both[seed] - only_a[seed]) - (only_b[seed] - neither[seed]) for seed in seeds}
            )
    return differences


class FTest(NamedTuple):
    """Of the null hypothesis that no pair of levels interacts."""

    f: float
    numerator_degrees: int
    denominator_degrees: int
    p_value: float


def overall_interaction(cells: Mapping[Cell, Mapping[int, float]]) -> FTest | None:
    """Repeated-measures analysis of variance with the seed as subject, over the seeds that every cell has.

    Its error is interaction × seed: each factor may be worth more at one seed than at another, and for two levels each
    F is the square of the t of `interactions`. It takes all contrasts to spread alike over seeds (sphericity).

    None where there is nothing to test: a factor of one level, an empty cell of the table, fewer than two common seeds,
    or no spread between them.
    """
    levels = [sorted({cell[factor] for cell in cells}) for factor in (0, 1)]
    seeds = sorted(set.intersection(*(set(values) for values in cells.values()))) if cells else []
    complete = len(cells) == math.prod(len(values) for values in levels)
    if min(len(values) for values in levels) < 2 or len(seeds) < 2 or not complete:
        return None
    if not any(difference.sd for difference in interactions(cells, baseline=(levels[0][0], levels[1][0])).values()):
        return None
    import pandas as pd
    from statsmodels.stats.anova import AnovaRM

    rows = [
        {"accuracy": cells[a, b][seed], "seed": seed, "first": a, "second": b}
        for seed in seeds
        for a in levels[0]
        for b in levels[1]
    ]
    table = AnovaRM(pd.DataFrame(rows), "accuracy", "seed", within=["first", "second"]).fit().anova_table
    f, numerator, denominator, p_value = (float(value) for value in table.loc["first:second"])
    return FTest(f, round(numerator), round(denominator), p_value)
