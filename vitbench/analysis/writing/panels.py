"""How are several panels laid out, their axes marked, and names fitted beside them?"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

COLUMNS = 3


def panels_of(figure: Figure, count: int, *, same_x: bool = True) -> list[Axes]:
    """`count` axes in rows of three that share both scales, or the upright one alone; tick labels only at the outside."""
    columns = min(COLUMNS, count)
    grid = figure.subplots(math.ceil(count / columns), columns, sharex=same_x, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.set_visible(False)
    for axes in panels[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return panels[:count]


def panels_height(count: int) -> float:
    """Inches that so many panels need."""
    return 1.3 + (2.6 if count <= COLUMNS else 1.8 * math.ceil(count / COLUMNS))


def wrapped(text: str, width: int) -> str:
    """On two lines at most; never beginning with an underscore, for which matplotlib leaves a label out of its legend."""
    lines = textwrap.wrap(text, width) or [""]
    rest = [textwrap.shorten(" ".join(lines[1:]), width, placeholder="…")] if len(lines) > 1 else []
    return (" " if text.startswith("_") else "") + "\n".join([lines[0], *rest])


def percent_text(fraction: float) -> str:
    """`2.5 %` of 0.025."""
    return f"{100 * fraction:.3g} %"


def mark_ticks(axis: Axis, ticks: Sequence[float], text: Callable[[float], str] = "{:,g}".format) -> None:
    """These ticks and no others, each with its `text`: for a logarithmic axis."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(partial(_tick_text, text)))


def _tick_text(text: Callable[[float], str], value: float, _: int | None) -> str:
    return text(value)


def round_ticks(low: float, high: float) -> list[float]:
    """For a logarithmic axis: 1, 2, 5 times powers of ten within the range, or 1, 3 times, or powers alone, whichever is the
    most that are no more than 6.
    """
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [t for e in exponents for digit in digits if low / 1.3 <= (t := digit * 10.0**e) <= high * 1.3]
        if len(ticks) <= 6:
            break
    return ticks
