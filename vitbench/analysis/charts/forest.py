"""How far is each arm from the baseline, how sure is that, and what is the verdict? A row for each arm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitbench.analysis.charts.shared import MAX_VECTOR_POINTS, figure_of
from vitbench.analysis.charts.verdict_looks import VERDICT_LOOKS
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import decisions_of
from vitbench.analysis.comparison.wording import bounds_text, margin_text, number_text, points, verdict_text
from vitbench.analysis.statistics.verdicts import Decision
from vitbench.analysis.writing.drawing import GREY
from vitbench.analysis.writing.panels import wrapped
from vitbench.records.metrics import Metric

ROW = 0.31
"""Inches of height for each arm."""
MOST_MARGINS, MOST_REACHES = 10, 6
"""Where the scale ends at the latest: at so many margins, or so many times the reach of an ordinary arm, whichever is more."""
MOST_TICKS = 7
ARROW = 20
"""Points from which an arrow comes to the end of the scale."""
LETTER = 4.9
"""Points of width of a letter of the text beside the rows, at the most."""
HEADING: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 2}
NAME_LETTERS, VERDICT_LETTERS = 28, 18


@dataclass(frozen=True)
class Row:
    """A line of the picture: an arm, or the name of what the arms beneath it are compared with."""

    label: str
    decision: Decision | None = None


class Scale(NamedTuple):
    """Of the axis, in the unit of the metric."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def forest_figure(comparison: Comparison) -> Figure | None:
    """Each arm's difference in what the study is judged by, with the interval that decided.

    None where no arm has a seed that what it is compared with has too.
    """
    decisions = decisions_of(comparison)
    if not any(decision.difference for decision in decisions.values()):
        return None
    rows = list(rows_of(comparison, decisions))
    of_arms = [row.decision for row in rows if row.decision is not None]
    metric, scale = comparison.metric, scale_of(of_arms, comparison.metric)
    figure = figure_of(comparison, ROW * len(rows) + 1.15, _caption(comparison, of_arms, scale))
    axes = figure.add_subplot()
    margin = metric.scale * metric.margin
    axes.axvspan(-margin, margin, color=GREY, alpha=0.16, linewidth=0, zorder=0)
    axes.axvline(0, color=GREY, linewidth=1.2, zorder=1)
    rasterized = sum(decision.difference.n for decision in of_arms if decision.difference) > MAX_VECTOR_POINTS
    for y, row in enumerate(rows):
        if row.decision is None:
            axes.text(scale.low, y, row.label, fontsize=9, weight="bold", va="center", bbox=HEADING)
        else:
            _draw(axes, y, row.decision, scale, metric, rasterized=rasterized)
    _write_beside(axes, rows, metric)
    axes.set(xlim=scale, ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)))
    names = [wrapped(row.label, NAME_LETTERS) if row.decision else "" for row in rows]
    axes.set_yticklabels(names, fontsize=9)
    direction = "" if metric.larger_is_better else ", less is better"
    axes.set_xlabel(f"difference in test {metric.words} ({metric.unit}{direction})")
    axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, steps=(1, 2, 5, 10)))
    axes.grid(axis="y", visible=False)
    axes.spines[:].set_visible(False)
    return figure


def rows_of(comparison: Comparison, decisions: Mapping[str, Decision]) -> Iterator[Row]:
    """Arms in the order of the study; where they are compared with several, beneath the name and accuracy of each."""
    groups: dict[str, list[ArmResult]] = defaultdict(list)
    references: dict[str, ArmResult] = {}
    for arm in comparison.arms:
        if (reference := comparison.compared_with(arm)) is not None:
            groups[reference.label].append(arm)
            references[reference.label] = reference
    for label, arms in groups.items():
        if comparison.design.held_factors:
            yield Row(f"against {label}{_reached(comparison, references[label])}")
        yield from (Row(arm.label, decisions[arm.label]) for arm in arms)


def scale_of(decisions: Sequence[Decision], metric: Metric) -> Scale:
    """As far as intervals and seeds reach, but not as far as a few reach beyond all others: that would leave no room to tell
    the others apart.
    """
    margin, spans = metric.scale * metric.margin, _spans(decisions, metric)
    reaches = sorted(max(-low, high) for low, high in spans)
    most = max(MOST_MARGINS * margin, MOST_REACHES * reaches[len(reaches) // 4])
    if reaches[-1] <= 1.5 * most:
        most = reaches[-1]
    low = min(-1.4 * margin, max(-most, min(low for low, _ in spans)))
    high = max(1.4 * margin, min(most, max(high for _, high in spans)))
    room = 0.04 * (high - low)
    return Scale(low - room, high + room)


def _spans(decisions: Sequence[Decision], metric: Metric) -> list[tuple[float, float]]:
    """The lowest and highest of each arm's interval and seeds, as drawn."""
    reached = [
        [*decision.difference.by_seed.values(), *(decision.interval or ())]
        for decision in decisions
        if decision.difference is not None
    ]
    return [(metric.scale * min(values), metric.scale * max(values)) for values in reached]


def _draw(axes: Axes, y: int, decision: Decision, scale: Scale, metric: Metric, *, rasterized: bool) -> None:
    """An arm's seeds, its mean and interval; what lies beyond the scale is an arrow."""
    look, difference = VERDICT_LOOKS[decision.verdict], decision.difference
    if difference is None:
        return
    seeds = [value for seed in difference.by_seed.values() if scale.holds(value := metric.scale * seed)]
    heights = [y + 0.22 + 0.08 * (i % 3) for i in range(len(seeds))]
    axes.scatter(seeds, heights, s=9, color=look.color, alpha=0.75, linewidths=0, zorder=2, rasterized=rasterized)
    mean = metric.scale * difference.mean
    left, right = (mean, mean) if decision.interval is None else (metric.scale * bound for bound in decision.interval)
    if left != right and left < scale.high and right > scale.low:
        ends = max(left, scale.low), min(right, scale.high)
        axes.plot(ends, [y, y], color=look.color, linewidth=1.8, solid_capstyle="butt", zorder=3)
    for is_beyond, end, inwards in ((left < scale.low, scale.low, 1), (right > scale.high, scale.high, -1)):
        if is_beyond:
            arrow = {"arrowstyle": "-|>", "color": look.color, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (end, y), (ARROW * inwards, 0), textcoords="offset points", arrowprops=arrow)
    if scale.holds(mean):
        style: dict[str, Any] = {"markersize": 6.5, "markeredgewidth": 1.5, "color": look.color}
        face = look.color if look.is_filled else "white"
        axes.plot([mean], [y], marker=look.marker, markerfacecolor=face, linestyle="", zorder=4, **style)
    else:
        end, inwards, side = (scale.low, 1, "left") if mean < scale.low else (scale.high, -1, "right")
        place: dict[str, Any] = {"xytext": (2 * inwards, 3), "textcoords": "offset points", "ha": side, "va": "bottom"}
        axes.annotate(points(difference.mean, metric), (end, y), **place, fontsize=8, color=look.color)


def _write_beside(axes: Axes, rows: Sequence[Row], metric: Metric) -> None:
    """At the right of each row: pairs of seeds, difference with interval, verdict."""
    written = [_difference(row.decision, metric) if row.decision else "" for row in rows]
    headings = {"n": 22.0, "difference [interval]": 34.0}
    headings["verdict"] = 34.0 + LETTER * max(map(len, (*headings, *written)))
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "annotation_clip": False}
    for heading, x in headings.items():
        side = "right" if heading == "n" else "left"
        axes.annotate(heading, (1, 1), (x, 3), "axes fraction", **look, color=GREY, va="bottom", ha=side)
    look |= {"xycoords": axes.get_yaxis_transform(), "va": "center"}
    at_n, at_difference, at_verdict = ((x, 0) for x in headings.values())
    for y, (row, text) in enumerate(zip(rows, written, strict=True)):
        if row.decision is None:
            continue
        n = row.decision.difference.n if row.decision.difference else 0
        words = wrapped(verdict_text(row.decision, metric), VERDICT_LETTERS)
        color = VERDICT_LOOKS[row.decision.verdict].color
        axes.annotate(str(n), (1, y), at_n, **look, ha="right")
        axes.annotate(text, (1, y), at_difference, **look)
        axes.annotate(words, (1, y), at_verdict, **look, color=color, weight="bold")


def _difference(decision: Decision, metric: Metric) -> str:
    """`−0.14 [−0.33, +0.05]` in the metric's unit; without an interval, the mean alone."""
    if decision.difference is None:
        return "no seed with both"
    bounds = "" if decision.interval is None else f" {bounds_text(decision.interval, metric)}"
    return f"{points(decision.difference.mean, metric)}{bounds}"


def _caption(comparison: Comparison, decisions: Sequence[Decision], scale: Scale) -> str:
    baseline, metric = comparison.baseline, comparison.metric
    reached = "" if comparison.design.held_factors or baseline is None else _reached(comparison, baseline)
    sentences = [
        f"Line at 0: {comparison.reference_text}{reached}.",
        "Bar: the interval that decides the verdict. Small points: seeds.",
        f"Shaded: ±{margin_text(metric.margin, metric)}, within which arms are equivalent.",
    ]
    if not all(scale.holds(end) for span in _spans(decisions, metric) for end in span):
        sentences.append("Arrow: goes on beyond the scale.")
    if any(decision.difference and not decision.interval for decision in decisions):
        sentences.append("No bar: nothing decided.")
    return " ".join(sentences)


def _reached(comparison: Comparison, arm: ArmResult) -> str:
    """` (52.67 %)`, ` (1.2345 nats)`: what an arm that others are compared with comes to."""
    summary, metric = comparison.summary(arm), comparison.metric
    return "" if summary is None else f" ({f'{number_text(summary.mean, metric)} {metric.value_unit}'.rstrip()})"
