"""How good is each arm, seed by seed?"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vitbench.analysis.charts.shared import MAX_VECTOR_POINTS, as_drawn, figure_of, is_near, looks_of
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.drawing import GREY
from vitbench.analysis.writing.panels import percent_text, wrapped


def accuracy_figure(comparison: Comparison) -> Figure | None:
    """The study's metric per arm at its chosen rate: every seed, mean ± standard deviation."""
    metric = comparison.metric
    arms = [arm for arm in comparison.arms if comparison.values(arm)]
    if not arms:
        return None
    looks = looks_of(comparison)
    which = (
        f"each arm's chosen {comparison.design.noun}"
        if comparison.has_choice
        else f"one {comparison.design.noun} for all arms"
    )
    caption = f"Small points: seeds. Large: mean ± 1 SD, at {which}."
    figure = figure_of(comparison, 0.34 * len(arms) + 1.6, caption)
    axes = figure.add_subplot()
    rasterized = sum(len(arm.completed(arm.setting)) for arm in arms) > MAX_VECTOR_POINTS
    accuracies: list[float] = []
    for row, arm in enumerate(arms):
        values = metric.scale * np.array(sorted(comparison.values(arm).values()))
        accuracies.extend(values)
        look, summary = looks[arm.label], comparison.summary(arm)
        assert summary is not None
        # Seeds lie beneath their mean, neighbours at different heights, so that equal accuracies stay apart.
        offsets = 0.24 + 0.1 * (np.arange(len(values)) % 3)
        axes.scatter(values, row + offsets, s=15, color=look.color, alpha=0.8, linewidths=0, rasterized=rasterized)
        mean, sd = as_drawn(summary, metric)
        axes.errorbar(mean, row, xerr=sd, fmt=look.marker, color=look.color, markersize=7, capsize=3.5, linewidth=1.6)
    label = f"test {metric.heading}"
    of_baseline = None if comparison.baseline is None else comparison.summary(comparison.baseline)
    if len(arms) > 1 and of_baseline is not None:
        axes.axvline(metric.scale * of_baseline.mean, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        label += "; dashed: baseline"
    if metric.is_top1 and (floor := comparison.without_learning) is not None:
        share, name = floor
        if is_near(100 * share, accuracies):
            axes.axvline(100 * share, color=GREY, linewidth=1, linestyle=":", zorder=1)
            label += f"; dotted: {name}, {percent_text(share)}"
        else:
            label += f"; {name} is {percent_text(share)}, off the scale"
    axes.set(yticks=range(len(arms)), ylim=(len(arms) - 0.4, -0.6), xlabel=label)
    axes.set_yticklabels([wrapped(arm.label, 34) for arm in arms])
    axes.grid(axis="y", visible=False)
    return figure
