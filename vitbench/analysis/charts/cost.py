"""What does accuracy, or whatever arms are judged by, cost in arithmetic and in time?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitbench.analysis.charts.shared import HOLLOW, Look, as_drawn, figure_of, looks_of, role
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.drawing import GREY
from vitbench.analysis.writing.panels import mark_ticks, round_ticks

NEAR, FEWEST_NAMED, LINE = 0.02, 3, 0.045
"""Arms nearer than the first share of the axis are a group; of so many, names stand beside it, at lines of the last share of
the height."""
TO_NAME = 0.045
"""Share of the width from a group to its names."""


def cost_figure(comparison: Comparison) -> Figure | None:
    """The study's metric against MACs per image, or training FLOPs where these are equal, and against training time, each
    with its Pareto front; None for one arm.
    """
    metric = comparison.metric
    reached = {arm.label: summary for arm in comparison.arms if arm.macs and (summary := comparison.summary(arm))}
    arms = [arm for arm in comparison.arms if arm.label in reached]
    if len(arms) < 2:
        return None
    looks = looks_of(comparison)
    names = {arm.label: role(arm, comparison, width=34) for arm in arms}
    columns = 3 if max(len(line) for name in names.values() for line in name.split("\n")) <= 24 else 2
    lines = 0.42 if any("\n" in name for name in names.values()) else 0.24
    figure = figure_of(
        comparison,
        4.2 + math.ceil(len(arms) / columns) * lines,
        "Mean ± 1 SD over seeds. Dotted line, where several arms are on it: Pareto front; no other arm is cheaper and better.",
    )
    costs = _costs(comparison, arms)
    points = [
        {label: (value, metric.scale * reached[label].mean) for label, value in cost.items()} for cost in costs.values()
    ]
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, (label, cost), places in zip(panels, costs.items(), points, strict=True):
        front = pareto_front(list(places.values()), larger_is_better=metric.larger_is_better)
        axes.plot(*zip(*front, strict=True), drawstyle="steps-post", color=GREY, linewidth=1.2, linestyle=":", zorder=1)
        for arm in arms:
            if arm.label in cost:
                name = names[arm.label] if axes is panels[0] else None
                _draw(axes, as_drawn(reached[arm.label], metric), cost[arm.label], looks[arm.label], name)
        _scale(axes, label, min(cost.values()), max(cost.values()))
    panels[0].set_ylabel(f"test {metric.heading}")
    for axes, places in zip(panels, points, strict=True):  # once all limits are as they stay
        _name_groups(axes, places)
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9, columnspacing=1.2, handletextpad=0.3)
    return figure


def _costs(comparison: Comparison, arms: Sequence[ArmResult]) -> dict[str, dict[str, float]]:
    """The name of an axis to the place of each arm on it, by label."""
    scale, unit = (1e9, "GMACs") if max(arm.macs for arm in arms) >= 1e9 else (1e6, "million MACs")
    costs = {f"{unit} per image, forward": {arm.label: arm.macs / scale for arm in arms}}
    flops = {arm.label: flops / 1e12 for arm in arms if (flops := arm.training_flops)}
    # Where models are equal, what may differ is for how long they train.
    if len({arm.macs for arm in arms}) == 1 and len(flops) == len(arms) and len({*flops.values()}) > 1:
        costs = {"training TFLOP per run": flops}
    seconds = {arm.label: value for arm in arms if (value := arm.median_cost("train_seconds"))}
    loads, days = {load for arm in arms for load in arm.loads}, {arm.days for arm in arms}
    # A run that goes on from another took as long as both; what shared the machine with others, or had it on another
    # day, took longer or shorter.
    if seconds and not comparison.design.has_starts and len(loads) == len(days) == 1:
        costs["training seconds per run, median"] = seconds
    return costs


def _draw(axes: Axes, reached: tuple[float, float | None], cost: float, look: Look, name: str | None) -> None:
    """Exactly at its numbers; hollow and with thin bars, so that arms of equal cost show through each other."""
    mean, sd = reached
    style = {**HOLLOW, "fmt": look.marker, "color": look.color, "markersize": 7.5, "markeredgewidth": 1.6}
    points = axes.errorbar(cost, mean, sd, label=name, zorder=3, **style)
    for bar in (*points.lines[1], *points.lines[2]):
        bar.set_alpha(0.45)


def _scale(axes: Axes, label: str, low: float, high: float) -> None:
    """Linear, or logarithmic where costs differ much; costs that are nearly equal look so."""
    if high > 4 * low:
        axes.set_xscale("log")
        mark_ticks(axes.xaxis, round_ticks(low, high), "{:g}".format)
        axes.set_xlim(low / 1.3, high * 1.3)
        label += " (log scale)"
    else:
        margin = max(0.1 * (high - low), 0.1 * high)
        axes.set_xlim(max(0.0, low - margin), high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel(label)


def _name_groups(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Names beside arms of equal cost, which hide each other: on the side with more room, each with a line to its point.

    `points`: (cost, metric) by label.
    """
    axes.set_ylim(axes.get_ylim())
    to_axes = axes.transData + axes.transAxes.inverted()
    places = {label: tuple(map(float, to_axes.transform(point))) for label, point in points.items()}
    groups: list[list[str]] = []
    for label in sorted(points, key=places.__getitem__):
        if groups and places[label][0] - places[groups[-1][0]][0] < NEAR:
            groups[-1].append(label)
        else:
            groups.append([label])
    for index, group in enumerate(groups):
        if not FEWEST_NAMED <= len(group) <= 1 / LINE:
            continue
        left = places[groups[index - 1][-1]][0] if index else 0.0
        right = places[groups[index + 1][0]][0] if index + 1 < len(groups) else 1.0
        first, last = places[group[0]][0], places[group[-1]][0]
        to_the_right = right - last >= first - left
        heights = spaced({label: places[label][1] for label in group}, step=LINE)
        shift = max(0.0, LINE - min(heights.values())) + min(0.0, 1 - LINE - max(heights.values()))
        x, side, relpos = (last + TO_NAME, "left", 0.0) if to_the_right else (first - TO_NAME, "right", 1.0)
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 5, "relpos": (relpos, 0.5)}
        look: dict[str, Any] = {"ha": side, "va": "center", "fontsize": 8, "arrowprops": line}
        for label in group:
            name, place = shorten(label, 30, placeholder="…"), (x, heights[label] + shift)
            axes.annotate(name, points[label], place, textcoords="axes fraction", **look)


def spaced(places: Mapping[str, float], *, step: float) -> dict[str, float]:
    """Each as near to its place as a step between all of them allows, in their order.

    The least squares of that: isotonic regression of places less a step for each before (pool adjacent violators).
    """
    labels = sorted(places, key=places.__getitem__)
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for i, label in enumerate(labels):
        mean, size = places[label] - i * step, 1
        while pools and pools[-1][0] > mean:
            mean_before, size_before = pools.pop()
            total = size_before + size
            mean, size = (mean_before * size_before + mean * size) / total, total
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    return {label: level[i] + i * step for i, label in enumerate(labels)}


def pareto_front(points: Sequence[tuple[float, float]], *, larger_is_better: bool = True) -> list[tuple[float, float]]:
    """The (cost, metric) points that no other beats at equal or lower cost, by ascending cost."""
    sign = 1 if larger_is_better else -1
    front: list[tuple[float, float]] = []
    for cost, value in sorted(set(points), key=lambda point: (point[0], -sign * point[1])):
        if not front or sign * value > sign * front[-1][1]:
            front.append((cost, value))
    return front
