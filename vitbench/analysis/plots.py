"""What a comparison looks like: accuracy with every seed, the learning-rate grid, accuracy against cost, learning curves.

Each kind of figure answers one question; the same arm has the same colour and marker in all of them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from vitbench.analysis.comparison import ArmResult, Comparison, StudyInfo, Summary, load_comparisons, outcome_of
from vitbench.analysis.drawing import GREY, INK, MARKERS, PALE, PALETTE, STYLE, headed_figure, saved
from vitbench.analysis.notes import rate_text
from vitbench.analysis.output import remove_stale, write
from vitbench.analysis.roofline import write_rooflines
from vitbench.records import Outcome

MAX_VECTOR_POINTS = 400
"""Beyond so many points a scatter is drawn as an image inside the SVG, which keeps files small."""
MAX_CURVE_POINTS = 600
"""Over all arms of a figure; longer curves are drawn through evenly spaced epochs, the first and last among them."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    color: str
    marker: str


def write_plots(store_root: str | Path, study_infos: Mapping[str, StudyInfo] | None = None) -> list[Path]:
    """Writes `plots/<study>/<slug>-<kind>.{svg,png}` for every comparison and kind in KINDS, and every device's roofline.

    Returns the paths. A kind that has nothing to show for a comparison is left out. Raises ValueError where there are
    neither records nor profiles.
    """
    directory = Path(store_root) / "plots"
    rooflines = write_rooflines(store_root)
    written = []
    for comparison in load_comparisons(store_root, study_infos, needed=not rooflines):
        for kind in KINDS:
            stem = directory / comparison.study / f"{comparison.slug}-{kind}"
            for suffix, content in render(comparison, kind, formats=("svg", "png")).items():
                written.append(write(stem.parent / f"{stem.name}.{suffix}", content))
    remove_stale(directory, written=written, suffixes=(".svg", ".png"))
    return [*written, *rooflines]


def render(comparison: Comparison, kind: str, *, formats: Sequence[str] = ("svg",)) -> dict[str, bytes]:
    """One figure in each of `formats`; empty where this kind has nothing to show. Equal records give equal bytes."""
    with mpl.rc_context(STYLE):
        figure = KINDS[kind](comparison)
        if figure is None:
            return {}
        return {suffix: saved(figure, suffix) for suffix in formats}


def accuracy_figure(comparison: Comparison) -> Figure | None:
    """Test top-1 per arm at its chosen rate: every seed, mean ± standard deviation."""
    arms = [arm for arm in comparison.arms if arm.test_top1]
    if not arms:
        return None
    looks = _looks(comparison)
    figure = _figure(
        comparison,
        0.34 * len(arms) + 1.6,
        "Small points: seeds. Large: mean ± 1 SD, at each arm's chosen learning rate.",
    )
    axes = figure.add_subplot()
    rasterized = sum(len(arm.completed(arm.learning_rate)) for arm in arms) > MAX_VECTOR_POINTS
    everything: list[float] = []
    for row, arm in enumerate(arms):
        values = 100 * np.array(sorted(arm.metric("test_top1", arm.learning_rate).values()))
        everything.extend(values)
        look, summary = looks[arm.label], arm.test_top1
        assert summary is not None
        # Seeds lie beneath their mean, neighbours at different heights, so that equal accuracies stay apart.
        offsets = 0.24 + 0.1 * (np.arange(len(values)) % 3)
        axes.scatter(values, row + offsets, s=15, color=look.color, alpha=0.8, linewidths=0, rasterized=rasterized)
        axes.errorbar(
            100 * summary.mean,
            row,
            xerr=None if summary.sd is None else 100 * summary.sd,
            fmt=look.marker,
            color=look.color,
            markersize=7,
            capsize=3.5,
            linewidth=1.6,
        )
    label = "test top-1 (%)"
    if len(arms) > 1 and comparison.baseline is not None and comparison.baseline.test_top1 is not None:
        axes.axvline(100 * comparison.baseline.test_top1.mean, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        label += "; dashed: baseline"
    chance = comparison.chance
    if chance is not None:
        if _is_near(100 * chance, everything):
            axes.axvline(100 * chance, color=GREY, linewidth=1, linestyle=":", zorder=1)
            label += f"; dotted: 1 / number of classes, {_percent(chance)}"
        else:
            label += f"; 1 / number of classes is {_percent(chance)}, off the scale"
    axes.set(yticks=range(len(arms)), ylim=(len(arms) - 0.4, -0.6), xlabel=label)
    axes.set_yticklabels([_wrapped(arm.label, 34) for arm in arms])
    axes.grid(axis="y", visible=False)
    return figure


def learning_rate_figure(comparison: Comparison) -> Figure | None:
    """Validation top-1, by which rates are chosen, against the learning rate; None for a grid of one rate."""
    arms = [arm for arm in comparison.arms if arm.test_top1]
    if not comparison.has_grid or not arms:
        return None
    looks = _looks(comparison)
    reference = _rate_frame(comparison.baseline)
    frames = {arm.label: _rate_frame(arm) for arm in arms}
    everything = [value for frame in frames.values() for value in frame["top1"]]
    figure = _figure(
        comparison,
        _panels_height(len(arms)),
        "Points: seeds. Line: mean. Ring: chosen. × at the bottom: a seed diverged."
        + (" Dashed grey: baseline." if len(arms) > 1 and len(reference) else "")
        + _chance_remark(comparison, everything),
    )
    rates = sorted({rate for arm in arms for rate in arm.learning_rates})
    panels = _panels(figure, len(arms))
    rasterized = sum(len(arm.runs) for arm in arms) > MAX_VECTOR_POINTS
    for axes, arm in zip(panels, arms, strict=True):
        look, frame = looks[arm.label], frames[arm.label]
        if arm is not comparison.baseline and len(reference):
            means = reference.groupby("rate")["top1"].mean()
            axes.plot(means.index, means, color=PALE, linewidth=1.6, linestyle=(0, (4, 2)), zorder=1)
        sns.lineplot(frame, x="rate", y="top1", ax=axes, color=look.color, errorbar=None, linewidth=1.8, zorder=2)
        axes.scatter(
            frame["rate"], frame["top1"], s=14, color=look.color, alpha=0.75, linewidths=0, rasterized=rasterized
        )
        chosen = frame[frame["rate"] == arm.learning_rate].mean()
        axes.scatter(chosen["rate"], chosen["top1"], s=90, facecolors="none", edgecolors=INK, linewidths=1.4, zorder=4)
        diverged = sorted({rate for (rate, _), record in arm.runs.items() if outcome_of(record) is Outcome.DIVERGED})
        if diverged:
            axes.scatter(
                diverged,
                [0.06] * len(diverged),
                transform=axes.get_xaxis_transform(),
                marker="x",
                color=INK,
                s=36,
                zorder=5,
            )
        axes.set_xscale("log")
        axes.set_title(_panel_title(arm, comparison))
        axes.xaxis.set_major_locator(FixedLocator(_thinned(rates)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: rate_text(rate)))
        axes.set_xlim(rates[0] / 1.35, rates[-1] * 1.35)
        axes.set(xlabel="", ylabel="")
    _draw_chance(panels, comparison, everything)
    figure.supxlabel("learning rate (log scale)", fontsize=10)
    figure.supylabel("validation top-1 (%)", fontsize=10)
    return figure


def cost_figure(comparison: Comparison) -> Figure | None:
    """Test top-1 against MACs per image and against training time, each with its Pareto front; None for one arm."""
    arms = [arm for arm in comparison.arms if arm.test_top1 and arm.macs]
    if len(arms) < 2:
        return None
    looks = _looks(comparison)
    names = [_wrapped(_role(arm, comparison), 34) for arm in arms]
    columns = 3 if max(len(line) for name in names for line in name.split("\n")) <= 24 else 2
    legend_height = math.ceil(len(arms) / columns) * (0.42 if any("\n" in name for name in names) else 0.24)
    figure = _figure(
        comparison,
        4.2 + legend_height,
        "Mean ± 1 SD over seeds. Grey line: Pareto front; no other arm is cheaper and better.",
    )
    scale, unit = (1e9, "GMACs") if max(arm.macs for arm in arms) >= 1e9 else (1e6, "million MACs")
    costs: list[tuple[str, dict[str, float]]] = [
        (f"{unit} per image, forward", {arm.label: arm.macs / scale for arm in arms})
    ]
    seconds = {arm.label: value for arm in arms if (value := arm.median_cost("train_seconds")) is not None}
    if seconds:
        costs.append(("training seconds per run, median", seconds))
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, (label, cost) in zip(panels, costs, strict=True):
        shown = [arm for arm in arms if arm.label in cost]
        front = pareto_front([(cost[arm.label], 100 * _mean(arm)) for arm in shown])
        axes.plot(*zip(*front, strict=True), drawstyle="steps-post", color="#d5d5d5", linewidth=4, zorder=1)
        for arm in shown:
            look, summary = looks[arm.label], arm.test_top1
            assert summary is not None
            axes.errorbar(
                cost[arm.label],
                100 * summary.mean,
                yerr=None if summary.sd is None else 100 * summary.sd,
                fmt=look.marker,
                color=look.color,
                markersize=7.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                elinewidth=1,
                capsize=2.5,
                label=_wrapped(_role(arm, comparison), 34) if axes is panels[0] else None,
                zorder=3,
            )
        low, high = min(cost.values()), max(cost.values())
        if high > 4 * low:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(_round_ticks(low, high)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlim(low / 1.3, high * 1.3)
            label += " (log scale)"
        else:
            # Costs that are nearly equal should look so.
            margin = max(0.1 * (high - low), 0.1 * high)
            axes.set_xlim(max(0.0, low - margin), high + margin)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel(label)
    panels[0].set_ylabel("test top-1 (%)")
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9, columnspacing=1.2, handletextpad=0.3)
    return figure


def curves_figure(comparison: Comparison) -> Figure | None:
    """Validation top-1 per epoch at the chosen rate: mean and standard deviation over seeds."""
    max_points = max(20, MAX_CURVE_POINTS // len(comparison.arms))
    frames = {arm.label: _curve_frame(arm, max_points=max_points) for arm in comparison.arms}
    arms = [arm for arm in comparison.arms if len(frames[arm.label])]
    if not arms:
        return None
    looks = _looks(comparison)
    everything = [value for arm in arms for value in frames[arm.label]["mean"]]
    baseline = next((arm for arm in arms if arm is comparison.baseline), None)
    figure = _figure(
        comparison,
        _panels_height(len(arms)),
        "Line: mean over seeds at the chosen learning rate. Band: ± 1 SD."
        + (" Dashed grey: baseline." if baseline and len(arms) > 1 else "")
        + _chance_remark(comparison, everything),
    )
    panels = _panels(figure, len(arms))
    for axes, arm in zip(panels, arms, strict=True):
        look, frame = looks[arm.label], frames[arm.label]
        if baseline is not None and arm is not baseline:
            reference = frames[baseline.label]
            axes.plot(reference["epoch"], reference["mean"], color=PALE, linewidth=1.6, linestyle=(0, (4, 2)), zorder=1)
        axes.fill_between(
            frame["epoch"],
            frame["mean"] - frame["sd"],
            frame["mean"] + frame["sd"],
            color=look.color,
            alpha=0.22,
            linewidth=0,
        )
        marker = "o" if len(frame) == 1 else None
        sns.lineplot(
            frame, x="epoch", y="mean", ax=axes, color=look.color, estimator=None, linewidth=1.8, marker=marker
        )
        axes.set_title(_panel_title(arm, comparison))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.set(xlabel="", ylabel="")
    _draw_chance(panels, comparison, everything)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("validation top-1 (%)", fontsize=10)
    return figure


KINDS: dict[str, Callable[[Comparison], Figure | None]] = {
    "accuracy": accuracy_figure,
    "learning-rate": learning_rate_figure,
    "cost": cost_figure,
    "curves": curves_figure,
}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) points that no other beats at equal or lower cost, by ascending cost."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def _figure(comparison: Comparison, height: float, caption: str) -> Figure:
    """An empty figure with its title and caption, and `height` inches beneath them."""
    seeds = len(comparison.seeds)
    environment = f"{comparison.environment.device}, {comparison.environment.precision}"
    about = f"{comparison.train.epochs} epochs, {seeds} {'seed' if seeds == 1 else 'seeds'}, {environment}. {caption}"
    return headed_figure(comparison.title, about, height)


def _panels(figure: Figure, count: int) -> list[Axes]:
    """`count` axes in rows of three that share both scales; tick labels only at the outside."""
    columns = min(3, count)
    grid = figure.subplots(math.ceil(count / columns), columns, sharex=True, sharey=True, squeeze=False)
    flat = list(grid.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    for axes in flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return flat[:count]


def _panels_height(count: int) -> float:
    return 1.3 + (2.6 if count <= 3 else 1.8 * math.ceil(count / 3))


def _panel_title(arm: ArmResult, comparison: Comparison) -> str:
    return _wrapped(_role(arm, comparison), 29)


def _role(arm: ArmResult, comparison: Comparison) -> str:
    return f"{arm.label} (baseline)" if arm is comparison.baseline and len(comparison.arms) > 1 else arm.label


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, width) or [""]
    rest = [textwrap.shorten(" ".join(lines[1:]), width, placeholder="…")] if len(lines) > 1 else []
    return "\n".join([lines[0], *rest])


def _looks(comparison: Comparison) -> dict[str, Look]:
    """Ink for the baseline; colours and markers run in cycles of different length, so that pairs of them repeat late."""
    others = [arm for arm in comparison.arms if arm is not comparison.baseline]
    looks = {
        arm.label: Look(PALETTE[index % len(PALETTE)], MARKERS[1 + index % (len(MARKERS) - 1)])
        for index, arm in enumerate(others)
    }
    if comparison.baseline is not None:
        looks[comparison.baseline.label] = Look(INK, MARKERS[0])
    return looks


def _draw_chance(panels: Sequence[Axes], comparison: Comparison, values: Sequence[float]) -> None:
    """A dotted line at 1 / number of classes where it is not far below the values (%)."""
    if comparison.chance is not None and _is_near(100 * comparison.chance, values):
        for axes in panels:
            axes.axhline(100 * comparison.chance, color=GREY, linewidth=1, linestyle=":", zorder=1)


def _chance_remark(comparison: Comparison, values: Sequence[float]) -> str:
    """What a caption says about the line of `_draw_chance`."""
    if comparison.chance is None:
        return ""
    where = "Dotted" if _is_near(100 * comparison.chance, values) else "Off the scale"
    return f" {where}: 1 / number of classes, {_percent(comparison.chance)}."


def _is_near(chance: float, values: Sequence[float]) -> bool:
    """Whether a scale from chance to the values leaves them half of the room."""
    low, high = min(values), max(values)
    return chance > low - max(5.0, high - low)


def _rate_frame(arm: ArmResult | None) -> pd.DataFrame:
    """Columns rate, top1 (%), one row per completed run."""
    rows = []
    if arm is not None:
        rows = [(rate, 100 * value) for rate in arm.learning_rates for value in arm.metric("val_top1", rate).values()]
    return pd.DataFrame(rows, columns=["rate", "top1"])


def _curve_frame(arm: ArmResult, *, max_points: int) -> pd.DataFrame:
    """Columns epoch, mean and sd (%) of val_top1 over seeds, at most `max_points` rows."""
    values: dict[int, list[float]] = {}
    for record in arm.completed(arm.learning_rate).values():
        for point in record.curve:
            if point.val_top1 is not None:
                values.setdefault(point.epoch, []).append(100 * point.val_top1)
    summaries = [(epoch, Summary.of(values[epoch])) for epoch in sorted(values)]
    rows = [(epoch, summary.mean, summary.sd or 0.0) for epoch, summary in summaries if summary]
    frame = pd.DataFrame(rows, columns=["epoch", "mean", "sd"])
    if len(frame) > max_points:
        frame = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, max_points).round().astype(int))]
    return frame


def _thinned(rates: Sequence[float]) -> list[float]:
    """At most four of the rates as ticks, the ends among them."""
    if len(rates) <= 4:
        return list(rates)
    step = math.ceil((len(rates) - 1) / 3)
    kept = list(rates[::step])
    return kept if kept[-1] == rates[-1] else [*kept[:3], rates[-1]]


def _round_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten within the range, or powers of ten alone where those would be many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    within = [tick for tick in fine if low / 1.3 <= tick <= high * 1.3]
    return within if len(within) <= 6 else [tick for tick in within if math.log10(tick).is_integer()]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _mean(arm: ArmResult) -> float:
    assert arm.test_top1 is not None
    return arm.test_top1.mean
