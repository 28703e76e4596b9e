"""What do the weights alone show? Patch filters, and how similar position embeddings are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitbench.analysis.insides.tiles import DIVERGING, Tiles, array, scale_beside, show
from vitbench.analysis.writing.drawing import headed_figure
from vitbench.text import counted

COLUMNS = 7
GAP = "#d8d8d8"
"""Between tiles, whose cells may be nearly white."""


def filters_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """Principal components of the patch filters, each scaled to its own smallest and largest value."""
    components = array(numbers["components"])
    shares = numbers["share_of_variance"]
    height, width = numbers["patch_size"]
    tiles = Tiles(math.ceil(len(components) / COLUMNS), COLUMNS, aspect=height / width, above=0.26)
    colored = components.shape[1] == 3
    figure = headed_figure(
        "Patch-embedding filters: principal components",
        f"{about}. The first {counted(len(components), 'component')} of {numbers['num_filters']} filters about their mean, "
        f"{height} × {width} px of {'red, green and blue' if colored else 'grey'} each, min–max scaled each; percent: "
        "share of the variance.",
        tiles.height,
    )
    panels = list(tiles.axes(figure).flat)
    for axes in panels[len(components) :]:
        axes.set_axis_off()
    for number, (axes, component, share) in enumerate(zip(panels, components, shares, strict=False), start=1):
        low, high = component.min(), component.max()
        scaled = (component - low) / (high - low) if high > low else np.full_like(component, 0.5)
        show(axes, np.moveaxis(scaled, 0, -1) if colored else scaled[0], scale=Normalize(0, 1))
        axes.set_title(f"{number}   {100 * share:.1f} %", fontsize=9, pad=3)
    return figure


def position_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """A tile for each patch, laid out as the patches are: its similarity with all others."""
    similarity = array(numbers["similarity"])
    tile_rows, tile_columns, rows, columns = similarity.shape
    tables = f" The first of {numbers['num_tables']} tables, one a block." if numbers["num_tables"] > 1 else ""
    some = (tile_rows, tile_columns) != (rows, columns)
    tiles = f" {tile_rows} × {tile_columns} tiles, evenly spaced, of {rows} × {columns}." if some else ""
    figure = headed_figure(
        "Similarity of position embeddings",
        f"{about}. Each tile: the patch in this row and column against every patch, {rows} × {columns} of them; the class "
        f"token is left out.{tables}{tiles}",
        6.0 * min(1.4, tile_rows * (rows + 1) / (tile_columns * (columns + 1))) + 0.6,
    )
    axes = figure.add_subplot()
    gap = max(1, round(min(rows, columns) / 8))
    framed = np.pad(similarity, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    mosaic = np.concatenate(np.concatenate(framed, axis=1), axis=1)[:-gap, :-gap]
    scale = Normalize(-1, 1)
    show(axes, mosaic, color_map=DIVERGING, scale=scale)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="column of the patch", ylabel="row of the patch", facecolor=GAP)
    for axis, tile_numbers, size in zip(
        (axes.xaxis, axes.yaxis), (numbers["tile_columns"], numbers["tile_rows"]), (columns, rows), strict=True
    ):
        middles = [k * (size + gap) + (size - 1) / 2 for k in range(len(tile_numbers))]
        axis.set_ticks(middles, [str(number + 1) for number in tile_numbers])
        axis.set_tick_params(length=0)
    scale_beside(figure, axes, "cosine similarity", color_map=DIVERGING, scale=scale)
    return figure
