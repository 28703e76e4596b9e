"""Which classes does a model tell apart, and which does it take for each other?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitbench.analysis.insides.tiles import SEQUENTIAL, array, scale_beside
from vitbench.analysis.writing.drawing import GREY, PALETTE, headed_figure
from vitbench.analysis.writing.glyphs import brief, spelled

MOST_WRITTEN = 20
"""Classes up to which each value is written."""
MOST_NAMED = 30
"""Classes that have their names beside the axes; of more, so many evenly spaced."""
LONGEST_NAME = 20


def confusion_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """Left: what images of each class were taken for. Right: the accuracy on each class."""
    counts = array(numbers["counts"])
    classes = numbers["classes"]
    per_class = counts.sum(axis=1, keepdims=True)
    percent = 100 * np.divide(counts, per_class, out=np.full_like(counts, np.nan), where=per_class > 0)
    step = -(-len(classes) // MOST_NAMED)
    named = range(0, len(classes), step)
    names = _names(classes)
    figure = headed_figure(
        "Accuracy per class, and confusion",
        f"{about}. All {numbers['num_images']:,} test images. Left: of the images of a class (row), percent that were taken "
        f"for each class (column); rows add up to 100. Right: the diagonal; dashed: over all classes, "
        f"{100 * numbers['top1']:.1f} %."
        + (f" One class in {step} is named." if step > 1 else "")
        + ("" if names == classes else " Names that do not fit are cut, or numbers; numbers.json has them."),
        5.6,
    )
    matrix, bars = figure.subplots(1, 2, sharey=True, width_ratios=(5, 2))
    scale = Normalize(0, 100)
    matrix.imshow(percent, cmap=SEQUENTIAL, norm=scale, interpolation="nearest", aspect="auto")
    matrix.grid(visible=False)
    if len(classes) <= MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(percent):
            if np.isfinite(value) and round(value):
                color = "black" if value > 60 else "white"
                matrix.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=color)
    else:
        scale_beside(figure, [matrix, bars], "percent of the class", color_map=SEQUENTIAL, scale=scale)
    matrix.set_xticks(named, names[::step], rotation=90 if max(map(len, names)) > 2 else 0)
    matrix.set_yticks(named, names[::step])
    matrix.tick_params(length=0, labelsize=9 if len(named) <= MOST_WRITTEN else 8)
    matrix.set(xlabel="taken for", ylabel="class")
    accuracy = np.diagonal(percent)
    rows = np.arange(len(classes))
    bars.axvline(100 * numbers["top1"], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    bars.hlines(rows, 0, accuracy, color=PALETTE[0], linewidth=1.2 if len(classes) <= MOST_NAMED else 0.5, zorder=2)
    bars.scatter(accuracy, rows, color=PALETTE[0], s=34 if len(classes) <= MOST_NAMED else 8, zorder=3)
    bars.set(xlabel="accuracy (%)", xlim=(0, 104))
    bars.tick_params(axis="y", length=0, labelleft=False)
    bars.grid(axis="y", visible=False)
    return figure


def _names(classes: Sequence[str]) -> list[str]:
    """Short names of all classes; a class's number where two names are alike, or no installed font has the letters."""
    short = [brief(name, LONGEST_NAME) for name in classes]
    return [
        name if spelled(full) == full and short.count(name) == 1 else f"class {label}"
        for label, (name, full) in enumerate(zip(short, classes, strict=True))
    ]
