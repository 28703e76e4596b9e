"""What does accuracy cost, in arithmetic and in time?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from vitbench.analysis.arms import ArmResult
from vitbench.analysis.charts.parts import figure_of, looks_of, role, round_ticks, wrapped
from vitbench.analysis.comparison import Comparison
from vitbench.analysis.notes import days_of, loads_of


def cost_figure(comparison: Comparison) -> Figure | None:
    """Test top-1 against MACs per image and against training time, each with its Pareto front; None for one arm."""
    arms = [arm for arm in comparison.arms if arm.test_top1 and arm.macs]
    if len(arms) < 2:
        return None
    looks = looks_of(comparison)
    names = [wrapped(role(arm, comparison), 34) for arm in arms]
    columns = 3 if max(len(line) for name in names for line in name.split("\n")) <= 24 else 2
    legend_height = math.ceil(len(arms) / columns) * (0.42 if any("\n" in name for name in names) else 0.24)
    figure = figure_of(
        comparison,
        4.2 + legend_height,
        "Mean ± 1 SD over seeds. Arms of nearly equal cost are drawn side by side. Grey line, where several arms are on it: "
        "Pareto front; no other arm is cheaper and better.",
    )
    scale, unit = (1e9, "GMACs") if max(arm.macs for arm in arms) >= 1e9 else (1e6, "million MACs")
    costs: list[tuple[str, dict[str, float]]] = [
        (f"{unit} per image, forward", {arm.label: arm.macs / scale for arm in arms})
    ]
    seconds = {arm.label: value for arm in arms if (value := arm.median_cost("train_seconds")) is not None}
    loads, days = {load for arm in arms for load in loads_of(arm)}, {days_of(arm) for arm in arms}
    # A run that goes on from another took as long as both; what shared the machine with others, or had it on another
    # day, took longer or shorter.
    if seconds and not comparison.starts and len(loads) == len(days) == 1:
        costs.append(("training seconds per run, median", seconds))
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, (label, cost) in zip(panels, costs, strict=True):
        shown = [arm for arm in arms if arm.label in cost]
        low, high = min(cost.values()), max(cost.values())
        is_log = high > 4 * low
        # Costs that are nearly equal should look so.
        margin = max(0.1 * (high - low), 0.1 * high)
        if is_log:
            left, right = low / 1.3, high * 1.3
            step = math.log10(right / left) / 50
            exponents = side_by_side({label: math.log10(value) for label, value in cost.items()}, step=step)
            places = {label: 10**x for label, x in exponents.items()}
            left, right = (
                min(left, 10 ** (min(exponents.values()) - step)),
                max(right, 10 ** (max(exponents.values()) + step)),
            )
        else:
            left, right = max(0.0, low - margin), high + margin
            step = (right - left) / 50
            places = side_by_side(cost, step=step)
            left, right = min(left, min(places.values()) - step), max(right, max(places.values()) + step)
        front = set(pareto_front([(cost[arm.label], 100 * _mean(arm)) for arm in shown]))
        on_it = sorted(
            (places[arm.label], 100 * _mean(arm)) for arm in shown if (cost[arm.label], 100 * _mean(arm)) in front
        )
        axes.plot(*zip(*on_it, strict=True), drawstyle="steps-post", color="#d5d5d5", linewidth=4, zorder=1)
        for arm in shown:
            look, summary = looks[arm.label], arm.test_top1
            assert summary is not None
            axes.errorbar(
                places[arm.label],
                100 * summary.mean,
                yerr=None if summary.sd is None else 100 * summary.sd,
                fmt=look.marker,
                color=look.color,
                markersize=7.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                elinewidth=1,
                capsize=2.5,
                label=wrapped(role(arm, comparison), 34) if axes is panels[0] else None,
                zorder=3,
            )
        if is_log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(round_ticks(low, high)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlim(left, right)
            label += " (log scale)"
        else:
            axes.set_xlim(left, right)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel(label)
    panels[0].set_ylabel("test top-1 (%)")
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9, columnspacing=1.2, handletextpad=0.3)
    return figure


def side_by_side(cost: Mapping[str, float], *, step: float) -> dict[str, float]:
    """Where to draw each arm: as near to its cost as a step between all of them allows, in their order.

    The least squares of that: isotonic regression of costs less a step for each arm before (pool adjacent violators).
    """
    labels = sorted(cost, key=cost.__getitem__)
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for i, label in enumerate(labels):
        mean, size = cost[label] - i * step, 1
        while pools and pools[-1][0] > mean:
            before, others = pools.pop()
            mean, size = (before * others + mean * size) / (others + size), others + size
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    return {label: level[i] + i * step for i, label in enumerate(labels)}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) points that no other beats at equal or lower cost, by ascending cost."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def _mean(arm: ArmResult) -> float:
    assert arm.test_top1 is not None
    return arm.test_top1.mean
