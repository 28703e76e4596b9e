"""How does validation accuracy depend on the learning rate, and which one was chosen?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitbench.analysis.charts import shared
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.drawing import GREY
from vitbench.analysis.writing.panels import mark_ticks, panels_height, panels_of
from vitbench.records import Outcome
from vitbench.studies.choice import outcome_of
from vitbench.studies.settings import Setting, value_text


def learning_rate_figure(comparison: Comparison) -> Figure | None:
    """Validation top-1, by which rates are chosen, against the learning rate; None for a grid of one rate.

    Other tuned fields are as they were chosen; seeds that settings are not chosen on are left out.
    """
    arms = [arm for arm in comparison.arms if arm.test_top1]
    if not arms or len({setting[0] for arm in comparison.arms for setting in comparison.grid_settings(arm)}) < 2:
        return None
    looks = shared.looks_of(comparison)
    frames = {arm.label: _rate_frame(arm) for arm in arms}
    of_baseline = _rate_frame(comparison.baseline)
    scaled = bool(comparison.design.learning_rate_scales)
    at_its_rates = ", at its rates times the arm's scale" if scaled else ""
    values = [value for frame in frames.values() for value in frame["top1"]]
    points = "seeds" if comparison.design.tuning_seeds is None else "seeds that it is chosen on"
    figure = shared.figure_of(
        comparison,
        panels_height(len(arms)),
        f"Points: {points}. Line: mean. Ring: chosen. × at the bottom: a seed diverged."
        + (f" With {' and '.join(comparison.design.tuned)} as chosen." if comparison.design.tuned else "")
        + (f" Dashed grey: baseline{at_its_rates}." if len(arms) > 1 and len(of_baseline) else "")
        + shared.floor_remark(comparison, values),
    )
    on_grid = sorted({setting[0] for arm in arms for setting in comparison.grid_settings(arm)})
    panels = panels_of(figure, len(arms), same_x=not scaled)
    rasterized = sum(len(arm.runs) for arm in arms) > shared.MAX_VECTOR_POINTS
    for axes, arm in zip(panels, arms, strict=True):
        rates = [comparison.design.to_arm(arm.name, (rate,))[0] for rate in on_grid]
        if arm is not comparison.baseline and len(of_baseline):
            _draw_baseline(axes, arm, of_baseline, comparison)
        _draw(axes, arm, frames[arm.label], looks[arm.label].color, rasterized=rasterized)
        axes.set_xscale("log")
        axes.set_title(shared.role(arm, comparison, width=29))
        mark_ticks(axes.xaxis, _ticks(rates), value_text)
        axes.set_xlim(rates[0] / 1.35, rates[-1] * 1.35)
        axes.set(xlabel="", ylabel="")
    shared.draw_floor(panels, comparison, values)
    figure.supxlabel("learning rate (log scale)", fontsize=10)
    figure.supylabel("validation top-1 (%)", fontsize=10)
    return figure


def _ticks(rates: Sequence[float]) -> list[float]:
    """Four at most, the ends among them."""
    step = math.ceil((len(rates) - 1) / 3) if len(rates) > 4 else 1
    return [*rates[:-1:step][:3], rates[-1]]


def _draw_baseline(axes: Axes, arm: ArmResult, frame: pd.DataFrame, comparison: Comparison) -> None:
    """The baseline's means, at the learning rates that the arm has in place of the baseline's."""
    assert comparison.baseline is not None
    design, means = comparison.design, frame.groupby("rate")["top1"].mean()
    on_grid = (design.to_grid(comparison.baseline.name, (float(rate),)) for rate in means.index)
    shared.draw_baseline(axes, [design.to_arm(arm.name, setting)[0] for setting in on_grid], means)


def _draw(axes: Axes, arm: ArmResult, frame: pd.DataFrame, color: str, *, rasterized: bool) -> None:
    """Seeds, their mean, the chosen rate, and the rates at which a seed diverged."""
    sns.lineplot(frame, x="rate", y="top1", ax=axes, color=color, errorbar=None, linewidth=1.8, zorder=2)
    axes.scatter(frame["rate"], frame["top1"], s=14, color=color, alpha=0.75, linewidths=0, rasterized=rasterized)
    chosen = frame[frame["rate"] == arm.learning_rate].mean()
    axes.scatter(chosen["rate"], chosen["top1"], s=90, facecolors="none", edgecolors=GREY, linewidths=1.4, zorder=4)
    diverged = {setting for (setting, _), record in arm.runs.items() if outcome_of(record) is Outcome.DIVERGED}
    if rates := [setting[0] for setting in _settings_at_chosen(arm) if setting in diverged]:
        bottom = [0.06] * len(rates)
        axes.scatter(rates, bottom, transform=axes.get_xaxis_transform(), marker="x", color=GREY, s=36, zorder=5)


def _settings_at_chosen(arm: ArmResult) -> list[Setting]:
    """The settings that differ from the chosen one in the learning rate alone, ascending."""
    return [] if arm.setting is None else [setting for setting in arm.settings if setting[1:] == arm.setting[1:]]


def _rate_frame(arm: ArmResult | None) -> pd.DataFrame:
    """Columns rate, top1 (%), one row per completed run."""
    rows = []
    if arm is not None:
        seeds = arm.choice.seeds if arm.tuning_seeds is not None and arm.choice.seeds else arm.seeds
        rows = [
            (setting[0], 100 * value)
            for setting in _settings_at_chosen(arm)
            for seed, value in arm.metric("val_top1", setting).items()
            if seed in seeds
        ]
    return pd.DataFrame(rows, columns=["rate", "top1"])
