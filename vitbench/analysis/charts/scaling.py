"""How does the error fall as something grows alone?"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vitbench.analysis.charts.shared import figure_of
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.growth import Series, series_of
from vitbench.analysis.statistics.power_law import FURTHEST
from vitbench.analysis.writing.drawing import MARKERS, PALETTE
from vitbench.analysis.writing.panels import mark_ticks, round_ticks
from vitbench.analysis.writing.words import interval_text


def scaling_figure(comparison: Comparison) -> Figure | None:
    """Test error against training FLOPs or images, both logarithmic, with power laws.

    None where nothing grows at 3 sizes with an error at each.
    """
    grown = [series for series in series_of(comparison) if len(series.arms) >= 3]
    drawn = [series for series in grown if series.errors]
    if not drawn:
        return None
    without = ", ".join(series.name for series in grown if not series.errors)
    figure = figure_of(
        comparison,
        4.4,
        "Small points: seeds. Large: geometric mean. Dashed line: power law, where 3 seeds or more show that the error falls "
        f"and no mean is off the law by more than {100 * (FURTHEST - 1):.0f} %; slope with its 95 % interval over seeds. "
        "Thin line: no law." + (f" Not drawn, as some arm makes no error: {without}." if without else ""),
    )
    axes = figure.subplots()
    styles = zip(drawn, cycle(PALETTE), cycle(MARKERS), strict=False)
    handles = [_draw(axes, series, color, marker) for series, color, marker in styles]
    flops = drawn[0].unit == "training FLOPs"
    unit = "training TFLOP of a run" if flops else drawn[0].unit
    axes.set_xlabel(f"{unit} (log scale)")
    axes.set_ylabel("test error (%, log scale)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        ticks = [tick for tick in round_ticks(low, high) if low <= tick <= high]
        if len(ticks) < 3:  # the limits are near each other
            ticks = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
        mark_ticks(axis, ticks)
    title = "what grows: slope" if flops else "model: slope"
    axes.legend(handles=handles, loc="best", fontsize=9, handlelength=3, title=title)
    return figure


def _draw(axes: Axes, series: Series, color: str, marker: str) -> Line2D:
    """Returns the handle of its legend."""
    errors = 100 * np.array(list(series.errors.values()))
    unit = 1e12 if series.unit == "training FLOPs" else 1.0
    sizes = np.array(series.sizes) / unit
    for errors_of_seed in errors:
        axes.scatter(sizes, errors_of_seed, s=10, color=color, alpha=0.5, linewidths=0, zorder=2)
    law = series.law if series.law is not None and series.law.is_drawn else None
    look: dict[str, Any] = {"color": color, "linestyle": (0, (4, 3)), "linewidth": 1.4}
    if law is None:
        look |= {"linestyle": "-", "linewidth": 0.7}
    means = np.exp(np.log(errors).mean(axis=0))
    points = {"marker": marker, "markersize": 6.5}
    axes.plot(sizes, means, **look | points | ({"linestyle": ""} if law else {}))
    if law is not None:
        ends = np.geomspace(sizes[0] / 1.15, sizes[-1] * 1.15, 2)
        axes.plot(ends, [100 * law.error(end * unit) for end in ends], **look, zorder=1)
    return Line2D([], [], **look | points, label=f"{series.name}{_slope(series)}")


def _slope(series: Series) -> str:
    law = series.law
    if law is None:
        return ""
    if not law.holds:
        return f": no power law, off by {100 * (law.worst - 1):.2g} %"
    return f": {interval_text(-law.exponent, -law.high, -law.low, digits='+.2f')}".replace("-", "−")
