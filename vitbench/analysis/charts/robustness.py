"""How does each arm's accuracy fall as test images are distorted more strongly?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import nan

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitbench.analysis.charts.shared import Look, draw_floor, figure_of, floor_remark, looks_of, role
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.robustness import DistortedArm, Robustness, robustness_of
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.writing.panels import mark_ticks, panels_height, panels_of
from vitbench.config import DISTORTIONS

MOST_SEED_LINES = 5
"""With more seeds, a band stands in their place."""
LEGEND_COLUMNS, LEGEND_LINE = 3, 0.25
"""Inches of a line of the legend."""


def robustness_figure(comparison: Comparison) -> Figure | None:
    """Test top-1 over strength: a panel for each distortion, a line for each arm. None where no run was evaluated so."""
    distortions = robustness_of(comparison)
    if not distortions:
        return None
    looks = looks_of(comparison)
    arms = [arm for arm in comparison.arms if any(arm.label in of_one.arms for of_one in distortions)]
    means = [100 * value for of_one in distortions for arm in of_one.arms.values() for value in _means(arm)]
    most = max(len(arm.plain) for of_one in distortions for arm in of_one.arms.values())
    legend_lines = -(-len(arms) // LEGEND_COLUMNS)
    figure = figure_of(
        comparison,
        panels_height(len(distortions)) + LEGEND_LINE * legend_lines,
        f"Line: mean over seeds at the chosen {comparison.design.noun}. Plain images at the left. "
        + ("Band: ± 1 SD." if most > MOST_SEED_LINES else "Thin lines: seeds.")
        + floor_remark(comparison, means),
    )
    panels = panels_of(figure, len(distortions), same_x=False)
    for axes, of_one in zip(panels, distortions, strict=True):
        for label, arm in of_one.arms.items():
            _draw(axes, arm, of_one, looks[label])
        places = [0, *range(1, len(of_one.strengths) + 1)]
        texts = ["0", *(f"{strength:g}" for strength in of_one.strengths)]
        mark_ticks(axes.xaxis, places, partial(_text_at, texts))
        axes.set_title(of_one.name)
        axes.set_xlabel(DISTORTIONS[of_one.name].unit, fontsize=9)
    draw_floor(panels, comparison, means)
    handles = [_handle(looks[arm.label], role(arm, comparison, width=34)) for arm in arms]
    figure.legend(handles=handles, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=9)
    figure.supylabel("test top-1 (%)", fontsize=10)
    return figure


def _text_at(texts: Sequence[str], place: float) -> str:
    return texts[round(place)]


def _handle(look: Look, text: str) -> Line2D:
    return Line2D([], [], color=look.color, marker=look.marker, markersize=4.5, linewidth=1.8, label=text)


def _draw(axes: Axes, arm: DistortedArm, of_one: Robustness, look: Look) -> None:
    """The strengths stand at equal distances, as many are doubled from one to the next."""
    places = [0, *(1 + of_one.strengths.index(strength) for strength in arm.by_strength)]
    if len(arm.plain) <= MOST_SEED_LINES:
        _draw_seeds(axes, places, arm, look)
    else:
        low, high = zip(*(_band(by_seed) for by_seed in (arm.plain, *arm.by_strength.values())), strict=True)
        axes.fill_between(places, low, high, color=look.color, alpha=0.12, linewidth=0)
    means = [100 * value for value in _means(arm)]
    axes.plot(places, means, color=look.color, marker=look.marker, markersize=4.5, linewidth=1.8, zorder=3)


def _draw_seeds(axes: Axes, places: Sequence[float], arm: DistortedArm, look: Look) -> None:
    """As one line with gaps: one for each seed would make the file a sixth larger."""
    xs: list[float] = []
    ys: list[float] = []
    for seed in arm.plain:
        xs += [*places, nan]
        ys += [*(100 * by_seed.get(seed, nan) for by_seed in (arm.plain, *arm.by_strength.values())), nan]
    axes.plot(xs, ys, color=look.color, linewidth=0.5, alpha=0.35, zorder=2)


def _band(by_seed: Mapping[int, float]) -> tuple[float, float]:
    """Mean ± 1 SD, in percent."""
    summary = Summary.of(by_seed.values())
    assert summary is not None
    sd = summary.sd or 0.0
    return 100 * (summary.mean - sd), 100 * (summary.mean + sd)


def _means(arm: DistortedArm) -> list[float]:
    """On plain images, then at each strength at which it was evaluated."""
    summaries = (Summary.of(arm.plain.values()), *(arm.accuracy(strength) for strength in arm.by_strength))
    return [summary.mean for summary in summaries if summary is not None]
