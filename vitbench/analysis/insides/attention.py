"""Where does a model look? How far each head, and at what in real images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vitbench.analysis.insides.tiles import SEQUENTIAL, Tiles, array, picture, show, verdict
from vitbench.analysis.writing.drawing import GREY, PALETTE, headed_figure

MOST_HEADS = 16
FEW_HEADS = 6
"""Up to here heads are rows and images columns; beyond, the other way round, for fewer images."""
FEW_IMAGES = 6
EVEN = "× an even share"
ARROW = "Arrow: taken for another class."
TITLE: dict[str, Any] = {"fontsize": 8, "loc": "center", "pad": 3}
TITLES = 0.3
"""Inches for those above the first row."""


def distance_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """How far every head of every block looks, beside what attention to all patches alike would give."""
    distances = array(numbers["distance_pixels"])
    depth, heads = distances.shape
    prefix = numbers["num_prefix_tokens"]
    tokens = "the one token" if prefix == 1 else f"the {prefix} tokens"
    left_out = f" Attention to {tokens} before the patches is left out and the rest scaled to 1." if prefix else ""
    figure = headed_figure(
        "Attention distance by block and head",
        f"{about}. Points: heads, {heads} a block; distance from a patch to what it attends to, weighted by attention, mean "
        f"over patches and {numbers['num_images']} test images. Line: mean over heads. Dashed: attention to all patches "
        f"alike.{left_out}",
        3.6,
    )
    axes = figure.add_subplot()
    blocks = np.arange(1, depth + 1)
    axes.axhline(numbers["uniform_pixels"], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    if depth > 1:
        axes.plot(blocks, distances.mean(axis=1), color=PALETTE[0], linewidth=1.6, alpha=0.6, zorder=2)
    x = np.repeat(blocks, heads)
    axes.scatter(x, distances.ravel(), s=34, color=PALETTE[0], alpha=0.75, linewidths=0, zorder=3)
    axes.set(xlabel="block", ylabel="mean attention distance (px)", xlim=(0.5, depth + 0.5))
    axes.set_ylim(0, 1.08 * max(numbers["uniform_pixels"], np.nanmax(distances)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=24, integer=True))
    return figure


def rollout_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """Real images, and beneath each how much of each patch is in what the logits are read from."""
    images = numbers["images"]
    relative = array(numbers["relative"])
    pictures = [picture(image["png"]) for image in images]
    height, width = pictures[0].shape[:2]
    tiles = Tiles(3, len(images), aspect=height / width, left=0.35, right=0.95)
    figure = headed_figure(
        "Attention rollout",
        f"{about}. Heads averaged, (A + I)/2, rows scaled to 1, multiplied from the first block to the last; read for "
        f"{numbers['reads']}, over patches alone. Bottom: the image, dimmed where its patches weigh less. {ARROW}",
        tiles.height + TITLES,
    )
    scale = Normalize(0, float(relative.max()))
    grid = tiles.axes(figure)
    for (top, middle, bottom), image, pixels, weights in zip(grid.T, images, pictures, relative, strict=True):
        show(top, pixels)
        top.set_title(verdict(image), **TITLE)
        show(middle, weights, color_map=SEQUENTIAL, scale=scale)
        show(bottom, _dimmed(pixels, weights))
    for axes, name in zip(grid[:, 0], ("image", "rollout", "product"), strict=True):
        axes.set_ylabel(name, fontsize=9)
    tiles.scale(figure, EVEN, color_map=SEQUENTIAL, scale=scale)
    return figure


def _dimmed(pixels: NDArray[np.uint8], weights: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The image times the weights of its patches, of which the largest is 1."""
    height, width = (size // count for size, count in zip(pixels.shape, weights.shape, strict=False))
    mask = np.kron(weights / weights.max(), np.ones((height, width)))
    return (pixels * (mask if pixels.ndim == 2 else mask[..., None])).round().astype(np.uint8)


def class_token_figure(numbers: Mapping[str, Any], about: str) -> Figure:
    """Real images, and beside each the class token's attention in the last block, head by head."""
    relative = array(numbers["relative"])
    heads = min(MOST_HEADS, relative.shape[1])
    left_out = f" The first {heads} heads." if heads < relative.shape[1] else ""
    by_row = heads > FEW_HEADS
    images = numbers["images"][: FEW_IMAGES if by_row else None]
    relative = relative[: len(images), :heads]
    pictures = [picture(image["png"]) for image in images]
    height, width = pictures[0].shape[:2]
    if by_row:
        tiles = Tiles(len(images), 1 + heads, aspect=height / width, left=1.05, right=0.8, gap=0.08)
    else:
        tiles = Tiles(1 + heads, len(images), aspect=height / width, left=0.35, right=0.8)
    figure = headed_figure(
        "The class token's attention by head",
        f"{about}. Block {numbers['block']}, the last: the class token's softmax weights, over patches alone."
        f"{left_out} {ARROW}",
        tiles.height + TITLES,
    )
    # Colours by the square root: one bright patch leaves the others tellable apart.
    scale = PowerNorm(0.5, vmin=0, vmax=float(np.nanmax(relative)))
    grid = tiles.axes(figure)
    for cells, image, pixels, weights in zip(grid if by_row else grid.T, images, pictures, relative, strict=True):
        show(cells[0], pixels)
        for axes, head in zip(cells[1:], weights, strict=True):
            show(axes, head, color_map=SEQUENTIAL, scale=scale)
        if by_row:
            cells[0].set_ylabel(verdict(image).strip(), fontsize=8, rotation=0, ha="right", va="center")
        else:
            cells[0].set_title(verdict(image), **TITLE)
    for head, axes in enumerate(grid[0, 1:] if by_row else grid[1:, 0], start=1):
        if by_row:
            axes.set_title(f"head {head}" if head == 1 else str(head), **TITLE)
        else:
            axes.set_ylabel(f"head {head}", fontsize=9)
    tiles.scale(figure, EVEN, color_map=SEQUENTIAL, scale=scale)
    return figure
