"""How well do weights do at other image sizes, as they are and fine-tuned there?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitbench.analysis.arms import ArmResult
from vitbench.analysis.charts.parts import chance_remark, draw_chance, figure_of
from vitbench.analysis.comparison import Comparison
from vitbench.analysis.drawing import INK, MARKERS, PALETTE

AS_IT_IS: Literal["dashed"] = "dashed"
FINE_TUNED: Literal["solid"] = "solid"


@dataclass(frozen=True)
class Line:
    """Arms that go on from one arm, at several image sizes, ascending by pixels; as they are, that arm among them."""

    name: str
    fine_tuned: bool
    arms: tuple[ArmResult, ...]

    @property
    def pixels(self) -> list[int]:
        return [arm.model.image_hw[0] for arm in self.arms]


def resolution_figure(comparison: Comparison) -> Figure | None:
    """Test accuracy against image height in pixels; None where no arm goes on at another size than its start's."""
    lines = list(lines_of(comparison))
    if not lines:
        return None
    values = [
        100 * value for line in lines for arm in line.arms for value in arm.metric("test_top1", arm.setting).values()
    ]
    caption = (
        "Points: seeds. Lines: means. Dashed: the weights as they are. Solid: fine-tuned at that size"
        + (f", each at a {comparison.noun} of its own." if comparison.has_choice else ".")
        + chance_remark(comparison, values)
    )
    figure = figure_of(comparison, 4.4, caption)
    axes = figure.subplots()
    names = list(dict.fromkeys(line.name for line in lines))
    for line in lines:
        index = names.index(line.name)
        _draw(axes, line, PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
    handles = [
        Line2D([], [], color=PALETTE[index % len(PALETTE)], marker=MARKERS[index % len(MARKERS)], label=name)
        for index, name in enumerate(names)
    ]
    draw_chance([axes], comparison, values)
    axes.set_xticks(sorted({size for line in lines for size in line.pixels}))
    axes.set_xlabel("image size (pixels a side)")
    axes.set_ylabel("test top-1 (%)")
    kinds = [
        Line2D([], [], color=INK, linewidth=1.6, linestyle=style, label=label)
        for style, label in ((FINE_TUNED, "fine-tuned"), (AS_IT_IS, "as it is"))
    ]
    axes.legend(handles=[*handles, *kinds], loc="best", fontsize=9, frameon=False)
    return figure


def lines_of(comparison: Comparison) -> Iterator[Line]:
    """Of each arm that others start from: those not trained any more, with it itself; and those trained again."""
    by_name = {arm.name: arm for arm in comparison.arms if arm.test_top1 is not None}
    families: dict[str, list[ArmResult]] = defaultdict(list)
    for name, start in comparison.starts.items():
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
    levels = comparison.factors.get(arm.name, {})
    return ", ".join(level for factor, level in levels.items() if factor not in comparison.within)


def _draw(axes: Axes, line: Line, color: str, marker: str) -> None:
    for arm, size in zip(line.arms, line.pixels, strict=True):
        own = [100 * value for value in arm.metric("test_top1", arm.setting).values()]
        axes.scatter([size] * len(own), own, s=10, color=color, alpha=0.5, linewidths=0, zorder=2)
    means = [100 * arm.test_top1.mean for arm in line.arms if arm.test_top1 is not None]
    axes.plot(
        line.pixels,
        means,
        color=color,
        marker=marker,
        markersize=6.5,
        linewidth=1.6,
        linestyle=FINE_TUNED if line.fine_tuned else AS_IT_IS,
        markerfacecolor=color if line.fine_tuned else "none",
    )
