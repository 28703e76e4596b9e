"""Is each model, and each kind of operation, limited by the rate of matrix products or by that of copying?

Drawn from a device's profile alone (Williams et al. 2009).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitbench.analysis.profile.profile import Profile, model_label, rows_of, shares, write_of_each_profile
from vitbench.analysis.profile.rows import Row
from vitbench.analysis.writing.drawing import GREY, MARKERS, PALETTE, headed_figure, rendered
from vitbench.analysis.writing.panels import mark_ticks, round_ticks
from vitbench.costs.macs import FORWARDS
from vitbench.profiling.profile_store import Part
from vitbench.records import Faults

CAPTION = (
    "Large: models, by their own arithmetic and the median of their steps. Small: kinds of operation, by profiled time. "
    "Bytes are those of all operators' inputs and outputs; what stays in a cache can lie above the roof of copying. Kinds "
    "without matrix products have no FLOPs and no point."
)
LEGEND_COLUMNS, LEGEND_LETTERS = 4, 24
"""With longer names, as models of timm have with their options, half as many columns of twice the room."""
ROOF_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)))


@dataclass(frozen=True)
class Point:
    """`intensity` in FLOP/byte, `rate` in FLOP/s; `kind` is empty for a whole model."""

    model: str
    mode: str
    kind: str
    intensity: float
    rate: float


@dataclass(frozen=True)
class Roofs:
    """`flops_per_second` by precision; `bytes_per_second` of copying: the fastest that any part of the profile saw."""

    flops_per_second: Mapping[str, float]
    bytes_per_second: float

    def at(self, intensity: float, precision: str) -> float:
        """The most FLOP/s that a device with these roofs has for so many FLOP/byte."""
        return min(self.flops_per_second[precision], self.bytes_per_second * intensity)

    def ridge(self, precision: str) -> float:
        """FLOP/byte at which the two roofs meet."""
        return self.flops_per_second[precision] / self.bytes_per_second


def write_rooflines(store_root: str | Path, faults: Faults | None = None) -> list[Path]:
    """Writes `profiles/<device>/plots/roofline.{svg,png}` of every device with ceilings and traces; returns the paths.

    A profile that is damaged is left as it is; `faults` are told, or stderr.
    """

    def pictures(profile: Profile) -> dict[Path, bytes]:
        files = rendered(lambda: roofline_figure(profile), ("svg", "png"))
        return {profile.directory / "plots" / f"roofline.{suffix}": content for suffix, content in files.items()}

    return write_of_each_profile(store_root, pictures, suffixes=(".svg", ".png"), faults=faults)


def roofline_figure(profile: Profile) -> Figure | None:
    """A panel for each mode: FLOP/s against FLOP/byte, both on log scales, under the device's roofs."""
    roofs, points = roofs_of(profile), points_of(profile)
    if roofs is None or not points:
        return None
    markers = dict(zip(dict.fromkeys(point.model for point in points), cycle(MARKERS), strict=False))
    colors = dict(zip(dict.fromkeys(point.kind for point in points if point.kind), cycle(PALETTE), strict=False))
    columns, letters = LEGEND_COLUMNS, LEGEND_LETTERS
    if any(len(name) > letters for name in markers):
        columns, letters = columns // 2, 2 * letters
    names = {name: textwrap.fill(name, letters) for name in [*markers, *colors]}
    lines = sum(1 + name.count("\n") for name in names.values())
    figure = headed_figure("Roofline", f"{profile.where}. {CAPTION}", 4.2 + 0.24 * lines / columns)
    x_limits = _limits([point.intensity for point in points] + [roofs.ridge(p) for p in roofs.flops_per_second])
    y_limits = _limits([rate / 1e9 for rate in (*(point.rate for point in points), *roofs.flops_per_second.values())])
    modes = [mode for mode in FORWARDS if any(point.mode == mode for point in points)]
    panels = figure.subplots(1, len(modes), sharex=True, sharey=True, squeeze=False)[0]
    for axes, mode in zip(panels, modes, strict=True):
        axes.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits, title=mode)
        _draw_roofs(axes, roofs, *x_limits)
        for point in sorted((p for p in points if p.mode == mode), key=lambda p: not p.kind):
            size, order, color = (26, 3, colors[point.kind]) if point.kind else (85, 4, GREY)
            look = {"marker": markers[point.model], "color": color, "edgecolors": "white", "linewidths": 0.5}
            axes.scatter(point.intensity, point.rate / 1e9, s=size, zorder=order, **look)
        axes.set_xlabel("arithmetic intensity (FLOP/byte, log scale)")
        for axis, (low, high) in ((axes.xaxis, x_limits), (axes.yaxis, y_limits)):
            mark_ticks(axis, [tick for tick in round_ticks(low, high) if low <= tick <= high])
    panels[0].set_ylabel("GFLOP/s (log scale)")
    handles = [_handle(marker, GREY, names[name], size=8) for name, marker in markers.items()]
    handles += [_handle("o", color, names[name], size=5) for name, color in colors.items()]
    look = {"fontsize": 9, "columnspacing": 1.2, "handletextpad": 0.3}
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **look)
    return figure


def roofs_of(profile: Profile) -> Roofs | None:
    """The best rates over all parts that measured them, since a slow moment is no roof."""
    ceilings = [ceiling for part in profile.parts if (ceiling := part.facts.get("ceilings"))]
    if not ceilings:
        return None
    precisions = dict.fromkeys(precision for ceiling in ceilings for precision in ceiling["flops_per_second"])
    best = {p: max(ceiling["flops_per_second"].get(p, 0.0) for ceiling in ceilings) for p in precisions}
    return Roofs(best, max(ceiling["bytes_per_second"] for ceiling in ceilings))


def points_of(profile: Profile) -> list[Point]:
    """Each traced model, where its throughput was measured too, and each kind of its operations that has FLOPs."""
    points: list[Point] = []
    for part in profile.of("traces"):
        model, mode = model_label(part), part.request["mode"]
        sums = shares(part, "kind")
        all_bytes = sum(share.bytes for share in sums.values())
        row = _timed(profile, part)
        if row and row.flops_per_second and all_bytes:
            flops = 2 * row.macs * FORWARDS[mode] * row.batch_size
            points.append(Point(model, mode, "", flops / all_bytes, row.flops_per_second))
        points += [
            Point(model, mode, kind, share.intensity, share.flops_per_second)
            for kind, share in sums.items()
            if share.intensity and share.flops_per_second
        ]
    return points


def _timed(profile: Profile, traced: Part) -> Row | None:
    """The throughput of what was traced: the same model, batch, mode and setting."""
    setting = (traced.facts["precision"], traced.facts["compiled"])
    keys = ("model", "mode", "batch_size")
    parts = [part for part in profile.of("throughput") if all(part.request[key] == traced.request[key] for key in keys)]
    rows = (row for part in parts for row in rows_of(part))
    return next((row for row in rows if (row.precision, row.compiled) == setting and row.ran), None)


def _draw_roofs(axes: Axes, roofs: Roofs, low: float, high: float) -> None:
    for (precision, rate), line in zip(roofs.flops_per_second.items(), ROOF_LINES, strict=False):
        corners = [low, min(max(roofs.ridge(precision), low), high), high]
        roof = [roofs.at(intensity, precision) / 1e9 for intensity in corners]
        axes.plot(corners, roof, color=GREY, linewidth=1.3, linestyle=line, zorder=2)
        text, end = f"{precision} {rate / 1e9:,.0f} GFLOP/s", (high, rate / 1e9)
        axes.annotate(text, end, (-3, 3), textcoords="offset points", ha="right", fontsize=8, color=GREY)
    text = f"copy {roofs.bytes_per_second / 1e9:,.0f} GB/s"
    axes.annotate(text, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=8, color=GREY)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Around the values, with some room: for markers below, for the names of the roofs above."""
    return min(values) / 1.6, 1.6 * max(values)


def _handle(marker: str, color: str, label: str, *, size: float) -> Line2D:
    return Line2D([], [], marker=marker, color=color, linestyle="", markersize=size, label=label)
