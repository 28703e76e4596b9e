"""How did each arm learn, epoch by epoch?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitbench.analysis.charts.shared import draw_baseline, draw_floor, figure_of, floor_remark, looks_of, role
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.writing.panels import panels_height, panels_of

FEWEST_POINTS = 3
"""Through fewer a curve is a straight line, whatever the arm."""
MAX_CURVE_POINTS = 600
"""Over all arms of a figure; longer curves are drawn through evenly spaced epochs, the first and last among them."""


def curves_figure(comparison: Comparison) -> Figure | None:
    """Validation top-1 per epoch at the chosen rate: mean and standard deviation over seeds.

    None where no arm was evaluated at `FEWEST_POINTS` epochs.
    """
    max_points = max(20, MAX_CURVE_POINTS // len(comparison.arms))
    frames = {arm.label: _curve_frame(arm, max_points=max_points) for arm in comparison.arms}
    arms = [arm for arm in comparison.arms if len(frames[arm.label])]
    if max((len(frames[arm.label]) for arm in arms), default=0) < FEWEST_POINTS:
        return None
    looks = looks_of(comparison)
    means = [value for arm in arms for value in frames[arm.label]["mean"]]
    baseline = next((arm for arm in arms if arm is comparison.baseline), None)
    figure = figure_of(
        comparison,
        panels_height(len(arms)),
        f"Line: mean over seeds at the chosen {comparison.design.noun}. Band: ± 1 SD."
        + (" Dashed grey: baseline." if baseline and len(arms) > 1 else "")
        + floor_remark(comparison, means),
    )
    panels = panels_of(figure, len(arms))
    for axes, arm in zip(panels, arms, strict=True):
        color, frame = looks[arm.label].color, frames[arm.label]
        if baseline is not None and arm is not baseline:
            reference = frames[baseline.label]
            draw_baseline(axes, reference["epoch"], reference["mean"])
        low, high = frame["mean"] - frame["sd"], frame["mean"] + frame["sd"]
        axes.fill_between(frame["epoch"], low, high, color=color, alpha=0.22, linewidth=0)
        marker = "o" if len(frame) == 1 else None
        sns.lineplot(frame, x="epoch", y="mean", ax=axes, color=color, estimator=None, linewidth=1.8, marker=marker)
        axes.set_title(role(arm, comparison, width=29))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.set(xlabel="", ylabel="")
    draw_floor(panels, comparison, means)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("validation top-1 (%)", fontsize=10)
    return figure


def _curve_frame(arm: ArmResult, *, max_points: int) -> pd.DataFrame:
    """Columns epoch, mean and sd (%) of val_top1 over seeds, at most `max_points` rows."""
    values: dict[float, list[float]] = defaultdict(list)
    for record in arm.completed(arm.setting).values():
        for point in record.curve:
            if point.val_top1 is not None:
                values[point.epoch - 1 + point.fraction].append(100 * point.val_top1)
    summaries = [(epoch, Summary.of(values[epoch])) for epoch in sorted(values)]
    rows = [(epoch, summary.mean, summary.sd or 0.0) for epoch, summary in summaries if summary]
    frame = pd.DataFrame(rows, columns=["epoch", "mean", "sd"])
    if len(frame) > max_points:
        frame = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, max_points).round().astype(int))]
    return frame
