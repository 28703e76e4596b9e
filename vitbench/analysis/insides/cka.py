"""Which layers of two models see images alike?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitbench.analysis.insides.tiles import SEQUENTIAL, array, scale_beside
from vitbench.analysis.writing.drawing import headed_figure

MOST_WRITTEN = 14
"""Layers a side, up to which each value is written."""
MOST_TICKS = 26
MOST_LETTERS = 80
"""Of all names along the horizontal axis, side by side."""
MOST_LETTERS_OF_LABEL = 44
"""In a line of an axis' label."""


def cka_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """Linear CKA of every layer of one model with every layer of another, or of its own; the first layer at the bottom."""
    values = array(numbers["cka"])
    ours, theirs = numbers["layers"]
    alone = len(set(numbers["run_ids"])) == 1
    # 8 digits of a run_id; all of a name of weights that ends in @ and a hash
    mine, other = (weights if "@" in weights else weights[:8] for weights in numbers["run_ids"])
    figure = headed_figure(
        "Similarity of layers (CKA)" + ("" if alone else f": {mine} and {other}"),
        f"{about}. Minibatch linear CKA, unbiased HSIC, over all tokens of {numbers['num_images']} test images; "
        + ("its layers among each other. " if alone else "")
        + "1: equal up to rotation and scale; 0: unrelated.",
        1.1 + 5.4 * min(1.2, max(0.5, len(ours) / len(theirs))),
    )
    axes = figure.add_subplot()
    scale = Normalize(0, 1)
    axes.imshow(values, cmap=SEQUENTIAL, norm=scale, interpolation="nearest", origin="lower", aspect="auto")
    axes.grid(visible=False)
    if max(values.shape) <= MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "black" if value > 0.6 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
    for axis, layers, run in ((axes.xaxis, theirs, other), (axes.yaxis, ours, mine)):
        step = -(-len(layers) // MOST_TICKS)
        axis.set_ticks(range(0, len(layers), step), layers[::step])
        axis.set_label_text(textwrap.fill(f"layer of {run} (blocks by number)", MOST_LETTERS_OF_LABEL))
        axis.set_tick_params(length=0)
    if max(map(len, theirs)) * min(len(theirs), MOST_TICKS) > MOST_LETTERS:
        axes.tick_params(axis="x", rotation=90)
    scale_beside(figure, axes, "CKA", color_map=SEQUENTIAL, scale=scale)
    return figure
