"""Does the order of a short ablation last? Each arm's difference in the short one against that in the long one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitbench.analysis.charts.forest import MOST_TICKS, Scale, scale_of
from vitbench.analysis.charts.verdict_looks import TOGETHER_LOOKS, VerdictLook
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.lasting import TITLE, Lasting, LastingArm, titles_of
from vitbench.analysis.comparison.naming import study_words
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.comparison.wording import margin_text
from vitbench.analysis.writing.drawing import GREY, headed_figure
from vitbench.analysis.writing.panels import wrapped
from vitbench.records.metrics import Metric

HEIGHT, LINE = 4.5, 0.3
"""Inches: of a panel at least, and of each arm in the list beside it."""
LIST_LETTERS = 46
PANEL_POINTS = (405.0, 270.0)
"""Width and height of a panel of that height, roughly: numbers are kept apart by them."""
CLEAR = 12.0
"""Points between a number and the next mark or number."""
Point = tuple[float, float]
OFFSETS: tuple[Point, ...] = tuple(
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in (11.0, 19.0, 28.0)
    for angle in (math.pi / 4 * eighth for eighth in (1, 3, 7, 5, 0, 4, 2, 6))
)
CAPTION = (
    "Bars: the interval that decides each verdict; they end where the picture does. Shaded: differences that count as none. "
    "Dashed: as far from the baseline in both. Numbers: the arms in the list."
)


def lasting_figure(lastings: Sequence[Lasting]) -> Figure | None:
    """A panel for every two places, with a list of its arms; None where no panel has two arms."""
    panels = [(title, each) for title, each in zip(titles_of(lastings), lastings, strict=True) if each.has_picture]
    if not panels:
        return None
    heights = [max(HEIGHT, LINE * (len(each.distinct_arms) + 7)) for _, each in panels]
    figure = headed_figure(TITLE, CAPTION, sum(heights))
    grid = figure.add_gridspec(len(panels), 2, width_ratios=(1.45, 1), height_ratios=heights)
    for row, (title, lasting) in enumerate(panels):
        axes = figure.add_subplot(grid[row, 0])
        _draw(axes, lasting)
        axes.set_title(wrapped(title, 80))
        _list(figure.add_subplot(grid[row, 1]), lasting)
    return figure


def _draw(axes: Axes, lasting: Lasting) -> None:
    metric, arms = lasting.metric, lasting.distinct_arms
    x_scale = _scale_of([arm.short for arm in arms], metric)
    y_scale = _scale_of([arm.long for arm in arms], metric)
    margin = metric.scale * metric.margin
    axes.axvspan(-margin, margin, color=GREY, alpha=0.13, linewidth=0, zorder=0)
    axes.axhspan(-margin, margin, color=GREY, alpha=0.13, linewidth=0, zorder=0)
    axes.axline((0, 0), slope=1, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
    for arm in arms:
        _draw_arm(axes, arm, metric)
    _write_numbers(axes, lasting, x_scale, y_scale)
    axes.set(xlim=x_scale, ylim=y_scale)
    axes.set_xlabel(f"short: {lasting.short.text}\ndifference in test {metric.words} ({metric.unit})")
    axes.set_ylabel(f"long: {lasting.long.text}\ndifference in test {metric.words} ({metric.unit})")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(MOST_TICKS, steps=(1, 2, 5, 10)))


def _scale_of(findings: Sequence[Finding], metric: Metric) -> Scale:
    """Of a forest plot of these arms, but no arm lies beyond it."""
    scale = scale_of([finding.decision for finding in findings], metric)
    means = [metric.scale * difference.mean for each in findings if (difference := each.decision.difference)]
    room = 0.04 * (scale.high - scale.low)
    return Scale(min(scale.low, min(means) - room), max(scale.high, max(means) + room))


def _draw_arm(axes: Axes, arm: LastingArm, metric: Metric) -> None:
    look = TOGETHER_LOOKS[arm.together]
    x, y = (metric.scale * difference for difference in arm.differences)
    bar: dict[str, Any] = {"color": look.color, "linewidth": 1.2, "solid_capstyle": "butt", "zorder": 2}
    if (interval := arm.short.decision.interval) is not None:
        axes.plot([metric.scale * bound for bound in interval], [y, y], **bar)
    if (interval := arm.long.decision.interval) is not None:
        axes.plot([x, x], [metric.scale * bound for bound in interval], **bar)
    _mark(axes, x, y, look)


def _write_numbers(axes: Axes, lasting: Lasting, x_scale: Scale, y_scale: Scale) -> None:
    arms, scale = lasting.distinct_arms, lasting.metric.scale
    marks = []
    for arm in arms:
        x, y = (scale * difference for difference in arm.differences)
        right = (x - x_scale.low) / (x_scale.high - x_scale.low) * PANEL_POINTS[0]
        marks.append((right, (y - y_scale.low) / (y_scale.high - y_scale.low) * PANEL_POINTS[1]))
    paper: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
    middle: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "bbox": paper}
    for number, (arm, offset) in enumerate(zip(arms, beside(marks), strict=True), start=1):
        color = TOGETHER_LOOKS[arm.together].color
        short, long = arm.differences
        axes.annotate(
            str(number),
            (scale * short, scale * long),
            offset,
            **middle,
            fontsize=9,
            weight="bold",
            color=color,
            zorder=5,
        )


def beside(marks: Sequence[Point]) -> list[Point]:
    """Where the number of each mark goes, from the mark: the nearest of several places that is clear of all marks and of the
    numbers before it, or else the clearest. All in points.
    """
    taken, offsets = [*marks], list[Point]()
    for x, y in marks:
        others = [place for place in taken if place != (x, y)]

        def room(offset: Point, x: float = x, y: float = y, others: Sequence[Point] = others) -> float:
            clear = min((math.dist((x + offset[0], y + offset[1]), place) for place in others), default=CLEAR)
            return min(clear, CLEAR)

        offset = max(OFFSETS, key=room)  # of equal room, the first
        taken.append((x + offset[0], y + offset[1]))
        offsets.append(offset)
    return offsets


def _mark(axes: Axes, x: float, y: float, look: VerdictLook) -> None:
    face = look.color if look.is_filled else "white"
    style: dict[str, Any] = {"markersize": 6.5, "markeredgewidth": 1.4, "color": look.color, "markerfacecolor": face}
    axes.plot([x], [y], marker=look.marker, linestyle="", **style, zorder=4, clip_on=False)


def _list(axes: Axes, lasting: Lasting) -> None:
    """What the marks are, with how many arms have them; then the arms by number."""
    arms, counts = lasting.distinct_arms, lasting.together
    num_lines = len(TOGETHER_LOOKS) + len(arms) + 3
    axes.set(xlim=(0, 1), ylim=(num_lines, -1))
    axes.set_axis_off()
    words = {
        Together.ALIKE: "the same verdict in both",
        Together.OPPOSED: "better in one, worse in the other",
        Together.DIFFERS: "settled in both, not the same",
        Together.OPEN: "not settled in one of them",
    }
    text: dict[str, Any] = {"fontsize": 9, "va": "center"}
    for line, (together, look) in enumerate(TOGETHER_LOOKS.items()):
        _mark(axes, 0.03, line, look)
        axes.text(0.09, line, f"{together}: {words[together]} ({counts[together]})", **text)
    margin = margin_text(lasting.metric.margin, lasting.metric)
    axes.text(0, len(TOGETHER_LOOKS), f"shaded: within ±{margin}", **text, color=GREY)
    for line, arm in enumerate(arms, start=len(TOGETHER_LOOKS) + 2):
        color = TOGETHER_LOOKS[arm.together].color
        number = line - len(TOGETHER_LOOKS) - 1
        axes.text(0.06, line, str(number), **text, ha="right", weight="bold", color=color)
        axes.text(0.09, line, wrapped(f"{arm.across.arm} ({study_words(arm.across.study)})", LIST_LETTERS), **text)
