"""What the figures of a comparison share: headings, panels, how an arm is drawn, and the line at 1 / number of classes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.tables.captions import epochs_text
from vitbench.analysis.writing.drawing import GREY, INK, MARKERS, PALETTE, headed_figure

MAX_VECTOR_POINTS = 400
"""Beyond so many points a scatter is drawn as an image inside the SVG, which keeps files small."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    color: str
    marker: str


def looks_of(comparison: Comparison) -> dict[str, Look]:
    """Ink for the baseline; colours and markers run in cycles of different length, so that pairs of them repeat late."""
    others = [arm for arm in comparison.arms if arm is not comparison.baseline]
    looks = {
        arm.label: Look(PALETTE[index % len(PALETTE)], MARKERS[1 + index % (len(MARKERS) - 1)])
        for index, arm in enumerate(others)
    }
    if comparison.baseline is not None:
        looks[comparison.baseline.label] = Look(INK, MARKERS[0])
    return looks


def figure_of(comparison: Comparison, height: float, caption: str) -> Figure:
    """An empty figure with its title and caption, and `height` inches beneath them."""
    seeds = len(comparison.seeds)
    environment = f"{comparison.environment.device}, {comparison.environment.precision}"
    about = f"{epochs_text(comparison)}, {seeds} {'seed' if seeds == 1 else 'seeds'}, {environment}. {caption}"
    return headed_figure(comparison.title, about, height)


def panels_of(figure: Figure, count: int) -> list[Axes]:
    """`count` axes in rows of three that share both scales; tick labels only at the outside."""
    columns = min(3, count)
    grid = figure.subplots(math.ceil(count / columns), columns, sharex=True, sharey=True, squeeze=False)
    flat = list(grid.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    for axes in flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return flat[:count]


def outer(panels: Sequence[Axes]) -> tuple[Sequence[Axes], Sequence[Axes]]:
    """(those of `panels_of` with nothing beneath, those at the left): where axes are named."""
    return panels[-3:], panels[::3]


def panels_height(count: int) -> float:
    """Inches that so many panels need."""
    return 1.3 + (2.6 if count <= 3 else 1.8 * math.ceil(count / 3))


def panel_title(arm: ArmResult, comparison: Comparison) -> str:
    return wrapped(role(arm, comparison), 29)


def role(arm: ArmResult, comparison: Comparison) -> str:
    """The arm's label, with a word where it is the baseline of several."""
    return f"{arm.label} (baseline)" if arm is comparison.baseline and len(comparison.arms) > 1 else arm.label


def wrapped(text: str, width: int) -> str:
    """On two lines at most; never beginning with an underscore, for which matplotlib leaves a label out of its legend."""
    lines = textwrap.wrap(text, width) or [""]
    rest = [textwrap.shorten(" ".join(lines[1:]), width, placeholder="…")] if len(lines) > 1 else []
    return (" " if text.startswith("_") else "") + "\n".join([lines[0], *rest])


def draw_chance(panels: Sequence[Axes], comparison: Comparison, values: Sequence[float]) -> None:
    """A dotted line at 1 / number of classes where it is not far below the values (%)."""
    if comparison.chance is not None and is_near(100 * comparison.chance, values):
        for axes in panels:
            axes.axhline(100 * comparison.chance, color=GREY, linewidth=1, linestyle=":", zorder=1)


def chance_remark(comparison: Comparison, values: Sequence[float]) -> str:
    """What a caption says about the line of `draw_chance`."""
    if comparison.chance is None:
        return ""
    where = "Dotted" if is_near(100 * comparison.chance, values) else "Off the scale"
    return f" {where}: 1 / number of classes, {percent_text(comparison.chance)}."


def is_near(chance: float, values: Sequence[float]) -> bool:
    """Whether a scale from chance to the values leaves them half of the room."""
    low, high = min(values), max(values)
    return chance > low - max(5.0, high - low)


def percent_text(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def round_ticks(low: float, high: float) -> list[float]:
    """For a logarithmic axis: 1, 2, 5 times powers of ten within the range, or 1, 3 times, or powers alone, whichever is the
    most that are no more than 6.
    """
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [t for e in exponents for digit in digits if low / 1.3 <= (t := digit * 10.0**e) <= high * 1.3]
        if len(found) <= 6:
            break
    return found
