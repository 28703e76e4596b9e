"""How is a decision written: its verdict, its difference, and what its runs leave out?"""

from __future__ import annotations

from vitbench.analysis.statistics.pairing import Interval, PairedDifference
from vitbench.analysis.statistics.power import MOST_SEEDS, SeedsToSettle
from vitbench.analysis.statistics.verdicts import Caveats, Decision
from vitbench.records.metrics import TOP1, Metric
from vitbench.text import counted


def number_text(value: float, metric: Metric) -> str:
    """`97.22`, `1.2345`: without its unit."""
    return f"{metric.scale * value:.{metric.digits}f}"


def points(difference: float, metric: Metric = TOP1) -> str:
    """`+0.56`, `−1.20`, `0.00`: percentage points from a fraction; of another metric `+0.0123`, in its own unit."""
    text = f"{metric.scale * difference:+.{metric.digits}f}".replace("-", "−")
    return text[1:] if not float(text[1:]) else text


def margin_text(margin: float, metric: Metric = TOP1) -> str:
    """`0.5 points` from 0.005, `0.013 nats`."""
    return f"{metric.scale * margin:g} {metric.unit}"


def with_interval(difference: PairedDifference, interval: Interval | None, metric: Metric = TOP1) -> str:
    """`+0.56 [−0.31, +1.43]` in the metric's unit; `+0.56 (n=2)` without an interval."""
    bounds = f"(n={difference.n})" if interval is None else bounds_text(interval, metric)
    return f"{points(difference.mean, metric)} {bounds}"


def bounds_text(interval: Interval, metric: Metric = TOP1) -> str:
    """`[−0.31, +1.43]` in the metric's unit."""
    return f"[{points(interval.low, metric)}, {points(interval.high, metric)}]"


def difference_text(decision: Decision, metric: Metric = TOP1) -> str:
    """`with_interval` of the one that decided; empty without a pair of runs."""
    return "" if decision.difference is None else with_interval(decision.difference, decision.interval, metric)


def verdict_text(decision: Decision, metric: Metric = TOP1, *, edges: bool = False) -> str:
    """`better`, `worse, within 0.5 points`, `open, 2 runs diverged`; `edges`: whether the grid's edges are told too.

    'Within' where the interval beside it is.
    """
    within = [f"within {margin_text(decision.margin, metric)}"] if decision.difference_lies_within else []
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
        "seeds were added after looking": caveats.seeds_added,
    }
    return [text for text, is_there in texts.items() if is_there]


def settle_text(needed: SeedsToSettle, metric: Metric = TOP1) -> str:
    """`about 12 seeds, by showing equivalence within 0.5 points`, `more than 100 seeds`."""
    if needed.num_seeds is None:
        return f"more than {MOST_SEEDS} seeds"
    within = f" within {margin_text(metric.margin, metric)}" if needed.shows == "equivalence" else ""
    return f"about {needed.num_seeds} seeds, by showing {needed.shows}{within}"
