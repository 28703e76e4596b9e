"""What do the figures of a comparison share? Headings, how an arm looks, and the line at what is reached without learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.writing.drawing import GREY, MARKERS, PALETTE, headed_figure
from vitbench.analysis.writing.panels import percent_text, wrapped
from vitbench.records.metrics import Metric
from vitbench.text import counted

HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "elinewidth": 1, "capsize": 2.5}
"""Points with bars that show through each other."""
MAX_VECTOR_POINTS = 400
"""Beyond so many points a scatter is drawn as an image inside the SVG, which keeps files small."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    color: str
    marker: str


def looks_of(comparison: Comparison) -> dict[str, Look]:
    """Grey for the baseline; colours and markers run in cycles of different length, so that pairs of them repeat late."""
    others = [arm for arm in comparison.arms if arm is not comparison.baseline]
    styles = zip(others, cycle(PALETTE), cycle(MARKERS[1:]), strict=False)
    looks = {arm.label: Look(color, marker) for arm, color, marker in styles}
    if comparison.baseline is not None:
        looks[comparison.baseline.label] = Look(GREY, MARKERS[0])
    return looks


def figure_of(comparison: Comparison, height: float, caption: str) -> Figure:
    """An empty figure with its title and caption, and `height` inches beneath them."""
    environment = f"{comparison.environment.device}, {comparison.precision_text}"
    about = f"{comparison.epochs_text}, {counted(len(comparison.seeds), 'seed')}, {environment}. {caption}"
    return headed_figure(comparison.title, about, height)


def role(arm: ArmResult, comparison: Comparison, *, width: int) -> str:
    """The arm's label, with a word where it is the baseline of several, on two lines of `width` letters at most."""
    is_baseline = arm is comparison.baseline and len(comparison.arms) > 1
    return wrapped(f"{arm.label} (baseline)" if is_baseline else arm.label, width)


def as_drawn(summary: Summary, metric: Metric) -> tuple[float, float | None]:
    """Mean and standard deviation in percent, or in the metric's unit."""
    return metric.scale * summary.mean, None if summary.sd is None else metric.scale * summary.sd


def draw_baseline(axes: Axes, x: ArrayLike, y: ArrayLike) -> None:
    """The baseline's means as a dashed grey line, beneath another arm's."""
    axes.plot(x, y, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)


def draw_floor(panels: Sequence[Axes], comparison: Comparison, values: Sequence[float]) -> None:
    """A dotted line at the accuracy without learning where it is not far below the values (%)."""
    if (floor := comparison.without_learning) is not None and is_near(100 * floor[0], values):
        for axes in panels:
            axes.axhline(100 * floor[0], color=GREY, linewidth=1, linestyle=":", zorder=1)


def floor_remark(comparison: Comparison, values: Sequence[float]) -> str:
    """What a caption says about the line of `draw_floor`."""
    if (floor := comparison.without_learning) is None:
        return ""
    share, name = floor
    where = "Dotted" if is_near(100 * share, values) else "Off the scale"
    return f" {where}: {name}, {percent_text(share)}."


def is_near(floor: float, values: Sequence[float]) -> bool:
    """Whether a scale from the floor to the values leaves them half of the room."""
    low, high = min(values), max(values)
    return floor > low - max(5.0, high - low)
