"""Which intervals hold at every look at once, however a study that adds seeds comes to its end?

Repeated confidence intervals of the paired t-test (Jennison and Turnbull 1989, 1991): seeds are looked at when there are
5, 8, 12, …, and the interval of every look is so wide that all of them together leave out the true difference with a chance
of at most alpha. So whatever ends the study, the rule, a budget or a whim, its last interval holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from vitbench.analysis.statistics.pairing import PairedDifference, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CELLS, _NODES = 64, 40
"""Of the integrals below: four times as many of each change no constant of the usual looks by more than 0.1 %."""


def repeated_interval(
    differences: Sequence[float], *, looks: Sequence[int], alpha: float = 0.05
) -> tuple[float, float]:
    """The interval (low, high) of the mean after the last of these paired differences, in their order.

    It is that of the last look that was reached, over the differences up to there; before the first, (−inf, inf), and
    where they have no spread too. With the intervals of all other looks it covers the true mean with a chance of
    1 − alpha at least, for normal differences of any variance. Raises ValueError for looks that are not ascending whole
    numbers from 2, or an alpha that is not between 0 and 1.
    """
    number = reached(len(differences), looks)
    if number is None:
        return -math.inf, math.inf
    pairs = PairedDifference(dict(enumerate(differences[:number])))
    interval = pairs.interval(1 - nominal_level(number, looks=looks, alpha=alpha))
    return (-math.inf, math.inf) if interval is None else (interval.low, interval.high)


def reached(num_seeds: int, looks: Sequence[int]) -> int | None:
    """The last look that so many seeds have reached; None before the first."""
    return max((look for look in looks if look <= num_seeds), default=None)


def nominal_level(look: int, *, looks: Sequence[int], alpha: float = 0.05) -> float:
    """The two-sided level of an ordinary t-test at a look that keeps the chance of a false alarm at any look to alpha.

    Raises ValueError for a look that is none of them.
    """
    if look not in looks:
        raise ValueError(f"look {look} is none of the looks {', '.join(map(str, looks))}; give one of these")
    return nominal_levels(tuple(looks), alpha)[looks.index(look)]


def nominal_levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """`nominal_level` of each look. alpha is spent in proportion to the seeds: α n / N by the look at n of N seeds, the
    error-spending function of Lan and DeMets (1983) that looks earliest without giving much away at the end.

    Raises ValueError for looks that are not ascending whole numbers from 2, or an alpha that is not between 0 and 1.
    """
    check_looks(looks)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha:g} must be between 0 and 1")
    return _nominal_levels(looks, alpha)


@cache  # which takes (5.0, 8.0) for (5, 8), so that looks are checked before
def _nominal_levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    from scipy.optimize import brentq

    path, levels = _PathOfT(looks[0]), []
    for index, look in enumerate(looks):
        before = looks[index - 1] if index else 0
        if index:
            path.go_on_to(look)
        spent = alpha * (look - before) / looks[-1]
        cosine = float(brentq(partial(path.outside, less=spent), 0.0, 1.0, xtol=1e-12))
        levels.append(_level(cosine, look))
        path.keep_within(cosine)
    return tuple(levels)


def check_looks(looks: Sequence[int]) -> None:
    """Raises ValueError for looks that are not ascending whole numbers from 2."""
    if not looks or any(not isinstance(look, int) for look in looks) or looks[0] < 2 or [*looks] != sorted({*looks}):
        raise ValueError(f"looks {tuple(looks)} must be ascending numbers of seeds, the first 2 or more: 5, 8, 12")


def chance_of_crossing(looks: Sequence[int], levels: Sequence[float]) -> float:
    """That ordinary two-sided t-tests at these levels call a true mean of 0 different from 0 at any of these looks."""
    path, crossed = _PathOfT(looks[0]), 0.0
    for index, (look, level) in enumerate(zip(looks, levels, strict=True)):
        if index:
            path.go_on_to(look)
        cosine = _cosine(level, look)
        crossed += path.outside(cosine)
        path.keep_within(cosine)
    return crossed


class _PathOfT:
    """The distribution of a one-sample t of standard normal draws, of those paths that kept within bounds so far.

    t is a function of the cosine u between the n draws and (1, …, 1): t = u √(n − 1) / √(1 − u²). The direction of the draws
    is uniform on the sphere and independent of their length. So with m draws more, the next cosine is
    √(n/N) u R + √(m/N) v √(1 − R²), N = n + m, of independent u, R and v: R², the share of the squared length that the first
    n have, is Beta(n/2, m/2), and v is the cosine of the m alone. So the cosines of the looks are a Markov chain, and one
    number's distribution, here in cells, is all that must be carried from look to look.
    """

    def __init__(self, draws: int) -> None:
        self._draws, self._alive = draws, 1.0

        def within(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
            return 1 - 2 * _below(-bounds, draws)

        self._within = within

    def outside(self, bound: float, *, less: float = 0.0) -> float:
        """The chance of having kept within all bounds so far, and of a cosine beyond ±`bound` now; `less` than that."""
        import numpy as np

        return self._alive - float(self._within(np.array([bound]))[0]) - less

    def keep_within(self, bound: float) -> None:
        """Ends the paths that are beyond ±`bound` now."""
        import numpy as np

        angles = np.linspace(0, math.asin(bound), _CELLS + 1)  # of the cosine's size: paths come in pairs, u and −u
        self._chances = np.diff(self._within(np.sin(angles)))
        self._centres = np.sin((angles[1:] + angles[:-1]) / 2)
        self._alive = float(self._chances.sum())

    def go_on_to(self, draws: int) -> None:
        """Adds draws to the paths that are left."""
        import numpy as np
        from scipy.special import betaincinv

        before, more = self._draws, draws - self._draws
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        share = betaincinv(before / 2, more / 2, (nodes + 1) / 2)  # R² by its quantiles, of equal chance
        old = math.sqrt(before / draws) * self._centres[:, None] * np.sqrt(share)
        scale, chances = math.sqrt(more / draws) * np.sqrt(1 - share), self._chances

        def within(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
            inside = [_below((b - old) / scale, more) - _below((-b - old) / scale, more) for b in bounds]
            return np.array([chances @ chance @ weights / 2 for chance in inside])

        self._draws, self._within = draws, within


def _below(cosine: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """The chance that the cosine of so many draws lies at or below these values; a t with draws − 1 degrees of freedom."""
    import numpy as np
    from scipy.special import stdtr

    if draws == 1:
        return np.select([cosine < -1, cosine < 1], [0.0, 0.5], 1.0)
    inside = np.clip(cosine, -1, 1)
    with np.errstate(divide="ignore"):
        return np.asarray(stdtr(draws - 1, inside * np.sqrt((draws - 1) / (1 - inside**2))))


def _cosine(level: float, draws: int) -> float:
    """Of the t at which an ordinary two-sided test of this level is significant."""
    t = t_quantile(1 - level / 2, draws - 1)
    return t / math.hypot(t, math.sqrt(draws - 1))


def _level(cosine: float, draws: int) -> float:
    """The inverse of `_cosine`."""
    import numpy as np

    return 2 * float(_below(np.array(-cosine), draws))
