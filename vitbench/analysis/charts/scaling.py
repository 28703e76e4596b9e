"""How does the error fall as something grows alone?"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from vitbench.analysis.charts.parts import figure_of, round_ticks
from vitbench.analysis.comparison import Comparison
from vitbench.analysis.drawing import MARKERS, PALETTE
from vitbench.analysis.power_laws import Series, series_of


def scaling_figure(comparison: Comparison) -> Figure | None:
    """Test error against training FLOPs or images, both logarithmic, with power laws; None where nothing grows at 3 sizes."""
    found = [series for series in series_of(comparison) if len(series.arms) >= 3]
    if not found:
        return None
    figure = figure_of(
        comparison,
        4.4,
        "Points: seeds. Line: mean (geometric). Dashed: power law, where there are 3 seeds and it falls; slope with its "
        "95 % interval over seeds, and how far off the law the furthest mean is.",
    )
    axes = figure.subplots()
    for index, series in enumerate(found):
        _draw(axes, series, PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
    flops = found[0].unit == "training FLOPs"
    unit = "training TFLOP of a run" if flops else found[0].unit
    axes.set_xlabel(f"{unit} (log scale)")
    axes.set_ylabel("test error (%, log scale)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(FixedLocator(_ticks(*limits)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.legend(loc="best", fontsize=9, frameon=False, title="what grows: slope" if flops else "model: slope")
    return figure


def _ticks(low: float, high: float) -> list[float]:
    """Round values within the limits; evenly spaced ones where the limits are so near that less than three are round."""
    ticks = [tick for tick in round_ticks(low, high) if low <= tick <= high]
    return ticks if len(ticks) >= 3 else [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]


def _draw(axes: Axes, series: Series, color: str, marker: str) -> None:
    errors = 100 * np.array(list(series.errors.values()))
    if not len(errors):
        return
    unit = 1e12 if series.unit == "training FLOPs" else 1.0
    sizes = np.array(series.sizes) / unit
    for own in errors:
        axes.scatter(sizes, own, s=10, color=color, alpha=0.5, linewidths=0, zorder=2)
    law = series.law
    exponent = f": {-law.exponent:+.2f} [{-law.high:+.2f}, {-law.low:+.2f}]".replace("-", "−") if law else ""
    if law is not None:
        exponent += f", off by {100 * (law.worst - 1):.0f} %"
    means = np.exp(np.log(errors).mean(axis=0))
    axes.plot(sizes, means, color=color, marker=marker, markersize=6.5, linewidth=1.6, label=f"{series.name}{exponent}")
    if law is not None and law.falls:
        ends = np.geomspace(sizes[0] / 1.15, sizes[-1] * 1.15, 2)
        axes.plot(
            ends,
            [100 * law.error(end * unit) for end in ends],
            color=color,
            linewidth=1,
            linestyle=(0, (4, 3)),
            zorder=1,
        )
