"""How is a decision written: its verdict, its difference, and what its runs leave out?"""

from __future__ import annotations

from vitbench.analysis.statistics.pairing import Interval, PairedDifference
from vitbench.analysis.statistics.power import MOST_SEEDS, SeedsToSettle
from vitbench.analysis.statistics.verdicts import MARGIN, Caveats, Decision
from vitbench.text import counted


def points(difference: float) -> str:
    """`+0.56`, `−1.20`, `0.00`: percentage points from a fraction."""
    text = f"{100 * difference:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def margin_text(margin: float) -> str:
    """0.5 from 0.005."""
    return f"{100 * margin:g}"


def with_interval(difference: PairedDifference, interval: Interval | None) -> str:
    """`+0.56 [−0.31, +1.43]` in points; `+0.56 (n=2)` without an interval."""
    bounds = f"(n={difference.n})" if interval is None else interval_points(interval)
    return f"{points(difference.mean)} {bounds}"


def interval_points(interval: Interval) -> str:
    """`[−0.31, +1.43]`."""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def difference_text(decision: Decision) -> str:
    """`with_interval` of the one that decided; empty without a pair of runs."""
    return "" if decision.difference is None else with_interval(decision.difference, decision.interval)


def verdict_text(decision: Decision, *, edges: bool = False) -> str:
    """`better`, `worse, within 0.5 points`, `open, 2 runs diverged`; `edges`: whether the grid's edges are told too.

    'Within' where the interval beside it is.
    """
    within = [f"within {margin_text(decision.margin)} points"] if decision.difference_lies_within else []
    return ", ".join([str(decision.verdict), *within, *_caveats(decision.caveats, edges=edges)])


def caveats_text(caveats: Caveats) -> str:
    """`2 runs diverged; at the edge of the grid`; empty where there is none."""
    return "; ".join(_caveats(caveats, edges=True))


def _caveats(caveats: Caveats, *, edges: bool) -> list[str]:
    diverged, of_baseline = caveats.diverged, caveats.baseline_diverged
    texts = {
        f"{counted(diverged, 'run')} diverged": diverged,
        f"{counted(of_baseline, 'run')} of the baseline diverged": of_baseline,
        "at the edge of the grid": edges and caveats.at_edge,
        "the baseline at the edge of the grid": edges and caveats.baseline_at_edge,
    }
    return [text for text, is_there in texts.items() if is_there]


def settle_text(needed: SeedsToSettle) -> str:
    """`about 12 seeds, by showing equivalence within 0.5 points`, `more than 100 seeds`."""
    if needed.num_seeds is None:
        return f"more than {MOST_SEEDS} seeds"
    within = f" within {margin_text(MARGIN)} points" if needed.shows == "equivalence" else ""
    return f"about {needed.num_seeds} seeds, by showing {needed.shows}{within}"
