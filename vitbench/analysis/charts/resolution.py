"""How accurate are trained weights at other image sizes, as they are and fine-tuned there?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitbench.analysis.charts.shared import HOLLOW, draw_floor, figure_of, floor_remark
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.drawing import MARKERS, PALETTE
from vitbench.analysis.writing.panels import wrapped

TITLES = {False: "the weights as they are", True: "fine-tuned at that size"}
STYLES = ("solid", "dashed", "dashdot", "dotted")
LEGEND_COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """Arms that start from one arm's weights, ascending by image size; where they are not fine-tuned, that arm among them."""

    name: str
    fine_tuned: bool
    arms: tuple[ArmResult, ...]

    @property
    def pixels(self) -> list[int]:
        return [arm.model.image_hw[0] for arm in self.arms]


def resolution_figure(comparison: Comparison) -> Figure | None:
    """Test accuracy against image height in pixels, as it is and fine-tuned apart; None where no arm goes on at another size
    than its start's.
    """
    lines = list(lines_of(comparison))
    if not lines:
        return None
    values = [value for line in lines for arm in line.arms for value in _percents(arm)]
    names = list(dict.fromkeys(line.name for line in lines))
    looks: dict[str, dict[str, Any]] = {
        name: {"color": color, "marker": marker, "linestyle": style, "linewidth": 1.6}
        for name, color, marker, style in zip(names, cycle(PALETTE), cycle(MARKERS), cycle(STYLES), strict=False)
    }
    figure = figure_of(
        comparison,
        4.2 + 0.24 * math.ceil(len(names) / LEGEND_COLUMNS),
        "Lines: mean ± 1 SD. Small points: seeds"
        + (f", each arm at a {comparison.design.noun} of its own." if comparison.has_choice else ".")
        + floor_remark(comparison, values),
    )
    kinds = [kind for kind in TITLES if any(line.fine_tuned == kind for line in lines)]
    panels = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
    for axes, fine_tuned in zip(panels, kinds, strict=True):
        axes.set_title(TITLES[fine_tuned])
        for line in lines:
            if line.fine_tuned == fine_tuned:
                _draw(axes, line, looks[line.name])
        axes.set_xticks(sorted({size for line in lines for size in line.pixels}))
        axes.set_xlabel("image size (pixels a side)")
    draw_floor(panels, comparison, values)
    panels[0].set_ylabel("test top-1 (%)")
    handles = [Line2D([], [], label=wrapped(name, 34), **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=9, handlelength=3.2)
    return figure


def _percents(arm: ArmResult) -> list[float]:
    """Test top-1 of each seed."""
    return [100 * value for value in arm.metric("test_top1", arm.setting).values()]


def lines_of(comparison: Comparison) -> Iterator[Line]:
    """Of each arm whose weights others start from: a line of the arms that use them as they are, one of those fine-tuned."""
    by_name = {arm.name: arm for arm in comparison.arms if arm.test_top1 is not None}
    families: dict[str, list[ArmResult]] = defaultdict(list)
    for name, start in comparison.design.starts.items():
        if name in by_name and start in by_name:
            families[start].append(by_name[name])
    for start, arms in families.items():
        first = by_name[start]
        if len({arm.model.image_hw for arm in (first, *arms)}) < 2:
            continue
        groups: dict[tuple[str, bool], list[ArmResult]] = defaultdict(list)
        for arm in arms:
            groups[_levels(comparison, arm) or _levels(comparison, first) or first.label, bool(arm.epochs)].append(arm)
        for (name, fine_tuned), members in groups.items():
            in_order = sorted(members if fine_tuned else [first, *members], key=lambda arm: arm.model.image_hw)
            yield Line(name, fine_tuned, tuple(in_order))


def _levels(comparison: Comparison, arm: ArmResult) -> str:
    """Of the factors that are not held; empty without factors."""
    levels = comparison.design.factors.get(arm.name, {})
    return ", ".join(level for factor, level in levels.items() if factor not in comparison.design.held_factors)


def _draw(axes: Axes, line: Line, look: Mapping[str, Any]) -> None:
    for arm, size in zip(line.arms, line.pixels, strict=True):
        top1 = _percents(arm)
        axes.scatter([size] * len(top1), top1, s=10, color=look["color"], alpha=0.5, linewidths=0, zorder=2)
    summaries = [arm.test_top1 for arm in line.arms if arm.test_top1 is not None]
    means = [100 * summary.mean for summary in summaries]
    sds = [100 * (summary.sd or 0.0) for summary in summaries]
    axes.errorbar(line.pixels, means, sds, markersize=6.5, markeredgewidth=1.4, **look, **HOLLOW)
